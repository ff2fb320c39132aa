"""Commands about servers: login, logout, servers, use, whoami."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from heimdall.client import profiles
from heimdall.client.command import tables
from heimdall.client.command.base import Json, chosen, command, complain, say
from heimdall.client.profiles import Profile
from heimdall.errors import InvalidInput


@command("login")
def log_in(
    server: Annotated[str, typer.Argument(help="Its address, such as https://gpu.example.org.")],
    token: Annotated[
        str, typer.Option(help="A token of the page Account; - reads standard input. Else asked for.")
    ] = "",
    name: Annotated[str | None, typer.Option(help="Under which the server is kept here.")] = None,
    certificates: Annotated[
        str, typer.Option(metavar="FILE", help="Certificates of your site's authority, PEM.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Make a server known here and check the token; it becomes the one that is asked."""
    from heimdall.client.synchronous.client import Client

    url = profiles.clean_url(server)
    profile = Profile(url, name=name or chosen["profile"] or profiles.DEFAULT, certificates=certificates)
    if url.startswith("http:") and not _is_here(url):
        complain(
            f"{url} is not encrypted: whoever is on the way can read the token. Use https where you can."
        )
    value = _token(url, token)
    with Client(url, token=value, certificates=certificates) as client:
        who = client.me()
    kept = profiles.keep(Profile(url, value, profile.name, certificates))
    where = (
        "in this machine's keyring" if kept.in_keyring else f"in {profiles.file()}, which only you can read"
    )
    sentence = f"You are {who['username']} at {url}. The token is kept {where}."
    say({"server": url, "profile": kept.name, "in_keyring": kept.in_keyring} | who, sentence, as_json=as_json)


@command("logout")
def log_out(
    name: Annotated[str | None, typer.Argument(help="Which server (the current one).")] = None,
) -> None:
    """Forget a server and its token here. The token itself is revoked on the page Account."""
    gone = profiles.forget(name or profiles.read().current)
    print(
        f"{gone.url} is forgotten here. Revoke its token at {gone.url}/settings/account/ if nobody else uses it."
    )


@command("use")
def use_server(name: Annotated[str, typer.Argument(help="As `heimdall servers` lists it.")]) -> None:
    """Ask another one of the known servers from now on."""
    print(f"{profiles.use(name).url} is asked from now on.")


@command("servers")
def list_servers(as_json: Json = False) -> None:
    """List the servers that are known here."""
    known = profiles.read()
    shown = [
        {"profile": name, "url": one.url, "is_current": name == known.current, "in_keyring": one.in_keyring}
        for name, one in sorted(known.servers.items())
    ]
    if as_json:
        for one in shown:
            say(one, "", as_json=True)
    elif shown:
        rows = [("*" if one["is_current"] else "", one["profile"], one["url"]) for one in shown]
        tables.show(("", "PROFILE", "SERVER"), rows)
    else:
        print("None yet: heimdall login https://gpu.example.org")


@command("whoami")
def show_me(as_json: Json = False) -> None:
    """Say who asks, and with which rights."""
    from heimdall.client.command.base import client

    with client() as server:
        who, url = server.me(), server.server.profile.url
    rights = ", ".join(who["rights"])
    say({"server": url} | who, f"{who['username']} at {url}; this token may: {rights}.", as_json=as_json)


def _token(url: str, given: str) -> str:
    if given == "-":
        given = sys.stdin.readline()
    elif not given and sys.stdin.isatty():
        import webbrowser

        page = f"{url}/settings/account/"
        print(f"Make a token at {page} and paste it here.")
        webbrowser.open(page)
        given = typer.prompt("Token", hide_input=True)
    value = given.strip()
    if not value:
        raise InvalidInput({"token": [f"Give one with --token; {url}/settings/account/ makes it."]})
    return value


def _is_here(url: str) -> bool:
    return url.partition("://")[2].startswith(("localhost", "127.", "[::1]"))
