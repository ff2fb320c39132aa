"""Who stands behind a socket: a session for people, a token for programs. Looked up again while it is open."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Literal

from django.conf import settings
from django.contrib.auth import get_user

from training import policy
from training.services import tokens

SUBPROTOCOL, TOKEN_SUBPROTOCOL = "heimdall", "heimdall.token."


@dataclass(frozen=True)
class Credential:
    """What a socket came with."""

    kind: Literal["session", "token"]
    key: str = field(repr=False)


@dataclass(frozen=True, eq=False)
class Login:
    """A credential that holds. Two logins of equal `rights` see the same."""

    credential: Credential
    user: Any
    rights: tuple


def credential_of(scope: dict[str, Any]) -> Credential | None:
    """The token, where there is an Authorization header, else the session."""
    header = authorization(scope)
    if header is not None:
        value = tokens.value_in(header)
        return Credential("token", value) if value else None
    key = getattr(scope.get("session"), "session_key", None)
    return Credential("session", key) if key else None


def authorization(scope: dict[str, Any]) -> str | None:
    """The header, or what a page's script says in its place, which can name subprotocols but no headers."""
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if values:
        return values[0].decode("latin1")
    tokens_named = [one for one in scope.get("subprotocols", ()) if one.startswith(TOKEN_SUBPROTOCOL)]
    return f"Bearer {tokens_named[0].removeprefix(TOKEN_SUBPROTOCOL)}" if tokens_named else None


def chosen_subprotocol(scope: dict[str, Any]) -> str | None:
    """What is answered to a client that names some: never the one that holds the token."""
    return SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None


def look_up(credential: Credential | None) -> Login | None:
    """The active user that the credential stands for now, with the rights of now; None where it does not hold."""
    user = _user(credential) if credential else None
    if credential is None or user is None or not user.is_active:
        return None
    if policy.Right.READ not in policy.rights_of(user):  # a job's own token, which only reports
        return None
    groups = tuple(sorted(user.groups.values_list("pk", flat=True)))
    sees_all, scope = user.has_perm(policy.VIEW_PERMISSION), policy.rights_of(user)
    return Login(credential, user, (user.pk, user.is_superuser, groups, sees_all, scope))


def _user(credential: Credential) -> Any:
    if credential.kind == "token":
        return tokens.person_with(credential.key)
    store = import_module(settings.SESSION_ENGINE).SessionStore
    return get_user(SimpleNamespace(session=store(credential.key)))
