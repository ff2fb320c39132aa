"""Bodies that may be larger than all others: code of programs, and files of reports. Only for who may send them."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest, parse_cookie

from training import policy, services
from training.services import tokens
from training.store.code import most_packed_bytes

API = "/v1/"
CODE = ("/v1/training/code", "/jobs/", "/admin/training/trainingjob/add/")
"""The API, and the forms that take the code of a program as a file."""
REPORTS = re.compile(r"/v1/training/jobs/\d+/locate|/jobs/\d+/locate/")


def most_upload_bytes(scope: dict[str, Any]) -> int:
    """How much the body of a request may have, asked before any of it is read; 0: as any other.

    By a token to the API, by a session to the forms.
    """
    has_reports = REPORTS.fullmatch(scope["path"]) is not None
    if scope["method"] != "POST" or not (has_reports or scope["path"].startswith(CODE)):
        return 0
    person = _person(scope)
    if person is None or not person.is_active:
        return 0
    if has_reports:
        return services.MOST_REPORT_BYTES + _FORM_BYTES
    return most_packed_bytes() if policy.may_run_programs(person) else 0


_FORM_BYTES = 100_000  # what a form has around its file


def _person(scope: dict[str, Any]) -> Any:
    """Who is there, or None."""
    headers = dict(scope["headers"])
    if scope["path"].startswith(API):
        value = tokens.value_in(headers.get(b"authorization", b"").decode("latin1"))
        return tokens.person_with(value) if value else None
    return _person_of_session(headers.get(b"cookie", b"").decode("latin1"))


def _person_of_session(cookies: str) -> Any:
    request = HttpRequest()
    key = parse_cookie(cookies).get(settings.SESSION_COOKIE_NAME)
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    found = get_user(request)
    return found if found.is_authenticated else None
