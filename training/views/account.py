"""One's own account: the password, and the token with which programs ask in one's name."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import password_validators_help_texts
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods
from rest_framework.authtoken.models import Token

from training.presentation.form_fields import Shown
from training.presentation.throttles import throttle_login
from training.views.page import page


class PasswordForm(PasswordChangeForm):
    """Django's, with the rules for a password as sentences."""

    def __init__(self, user: User, *args: Any, **options: Any):
        super().__init__(user, *args, **options)
        labels = {
            "old_password": "Present password",
            "new_password1": "New password",
            "new_password2": "New password, once more",
        }
        for name, label in labels.items():
            self.fields[name].label = label
            self.fields[name].help_text = ""
            self.fields[name].widget.attrs.pop("autofocus", None)
        self.fields["new_password1"].help_text = " ".join(password_validators_help_texts())

    @property
    def shown(self) -> list[Shown]:
        return [Shown(self[name]) for name in self.fields]


@throttle_login  # whoever has the session has not got the password
@page
@require_http_methods(["GET", "POST"])
def overview(request: HttpRequest) -> HttpResponse:
    """The account, and the form for another password. Other browsers are logged out by it, this one stays."""
    form = PasswordForm(request.user, request.POST or None)
    if form.is_valid():
        update_session_auth_hash(request, form.save())
        messages.success(request, "The password is changed. Other browsers are logged out.")
        return redirect("account")
    return _page_of(request, form, status=400 if form.errors else 200)


@page
@require_http_methods(["GET", "POST"])
def token(request: HttpRequest, act: str) -> HttpResponse:
    """GET asks, POST does it. The answer to `new` is the only page that ever shows the token."""
    if act not in _QUESTIONS:
        raise Http404("There is no such thing to do.")
    if request.method == "GET":
        return render(request, "account_ask.html", {"section": "account", "ask": _QUESTIONS[act]})
    with transaction.atomic():
        Token.objects.filter(user=request.user).delete()
        made = Token.objects.create(user=request.user) if act == "new" else None
    if made is None:
        messages.success(request, "The token is deleted; nobody can ask with it any more.")
        return redirect("account")
    response = _page_of(request, PasswordForm(request.user), key=made.key, status=201)
    response["Cache-Control"] = "no-store"
    return response


_QUESTIONS = {
    "new": {
        "title": "Make a new token?",
        "text": "Programs that ask with the one before are refused from now on, until they learn the new one.",
        "button": "Make a new token",
    },
    "delete": {
        "title": "Delete your token?",
        "text": "Programs that ask with it are refused from now on.",
        "button": "Delete",
    },
}


def _page_of(request: HttpRequest, form: PasswordForm, *, key: str = "", status: int = 200) -> HttpResponse:
    context = {
        "section": "account",
        "form": form,
        "token": Token.objects.filter(user=request.user).first(),
        "key": key,
        "teams": request.user.groups.order_by("name"),
    }
    return render(request, "account.html", context, status=status)
