"""Certificates, and the one sentence for a server that cannot be reached."""

from __future__ import annotations

import re
import ssl
from urllib.parse import urlsplit

from heimdall.client.errors import CertificateRefused, LoginRequired, ServerUnreachable
from heimdall.client.profiles import Profile
from heimdall.errors import InvalidInput

MOST_LOST_SOCKETS = 40  # in a row, up to 15 s apart: about nine minutes


def context_for(profile: Profile) -> ssl.SSLContext | None:
    """This machine's authorities, and one's own; None where the server speaks plain http."""
    if not profile.url.startswith("https:"):
        return None
    context = own_context()
    if profile.certificates:
        try:
            context.load_verify_locations(profile.certificates)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(
                {"certificates": [f"{profile.certificates} holds no certificates as PEM: {error}."]}
            ) from error
    return context


def require_token(profile: Profile) -> None:
    """Raise LoginRequired for what no header can carry. Libraries refuse it, too, and print it."""
    if not re.fullmatch(r"[\x21-\x7e]*", profile.token):
        raise LoginRequired(
            f"The token for {profile.url} holds a space, a line break or a letter that no token has: log in "
            "again, or look at HEIMDALL_TOKEN."
        )


def own_context() -> ssl.SSLContext:
    """What this machine trusts."""
    context = ssl.create_default_context()
    if not context.get_ca_certs():
        import certifi  # where Python brings no authorities along, as on macOS

        context.load_verify_locations(certifi.where())
    return context


def is_certificate_error(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def unreachable(profile: Profile, error: BaseException) -> ServerUnreachable:
    if is_certificate_error(error):
        return CertificateRefused(
            f"The certificate of {profile.url} is not trusted here. Where your site has an authority of its own, "
            "log in with --certificates FILE."
        )
    why = str(error).strip() or type(error).__name__
    if "WRONG_VERSION_NUMBER" in why or "wrong version number" in why.lower():
        return ServerUnreachable(
            f"{profile.url} does not speak https. Is its address http://{_host(profile)}?"
        )
    return ServerUnreachable(
        f"{profile.url} does not answer ({why[:200]}). Is it running, and is the address right?"
    )


def _host(profile: Profile) -> str:
    return urlsplit(profile.url).netloc
