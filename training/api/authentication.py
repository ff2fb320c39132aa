"""Who asks the API: a program with a token, or a page with its session."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from training import policy
from training.services import tokens

SCHEMES = ("bearer", "token")


class ApiTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer ...`, and `Token ...`, which means the same. Other schemes are left to others."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        header = request.META.get("HTTP_AUTHORIZATION", "")
        if header.partition(" ")[0].lower() not in SCHEMES:
            return None
        value = tokens.value_in(header)
        user = tokens.person_with(value) if value else None
        if user is None:
            raise AuthenticationFailed("There is no such token: it is wrong, was revoked or has expired.")
        return user, None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class WithinScope(BasePermission):
    """A token does what its scope lets it: this stands before every view. What a view does not name needs ADMIN."""

    def has_permission(self, request: Request, view: Any) -> bool:
        default = policy.Right.READ if request.method in SAFE_METHODS else policy.Right.ADMIN
        needed = getattr(view, "needs", {}).get(request.method, default)
        self.message = policy.narrow(needed)
        return needed in policy.rights_of(request.user)


class ApiTokenScheme(OpenApiAuthenticationExtension):
    target_class = ApiTokenAuthentication
    name = "apiToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A token of the page Account."}
