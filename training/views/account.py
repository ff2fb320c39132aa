"""One's own account: the password, and the tokens with which programs act in one's name."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm
from django.contrib.auth.models import User
from django.contrib.auth.password_validation import password_validators_help_texts
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from heimdall.errors import InvalidInput
from training import policy
from training.errors import NotFound
from training.models import ApiToken
from training.presentation.form_fields import Shown
from training.presentation.throttles import throttle_login, throttle_verbs
from training.services import tokens
from training.views.page import page

LIFETIMES = (("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "a year"), ("", "never expires"))


class PasswordForm(PasswordChangeForm):
    """Django's, with the rules for a password as sentences."""

    def __init__(self, user: User, *args: Any, **options: Any):
        super().__init__(user, *args, **options)
        labels = {
            "old_password": "Current password",
            "new_password1": "New password",
            "new_password2": "New password again",
        }
        for name, label in labels.items():
            self.fields[name].label = label
            self.fields[name].help_text = ""
            self.fields[name].widget.attrs.pop("autofocus", None)
        self.fields["new_password1"].help_text = " ".join(password_validators_help_texts())

    @property
    def shown(self) -> list[Shown]:
        return [Shown(self[name]) for name in self.fields]


class TokenForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="What it is for, such as: night sweep on gpu-2.")
    scope = forms.ChoiceField(
        label="May",
        choices=[choice for choice in ApiToken.Scope.choices if choice[0] in policy.SCOPES_OF_PEOPLE],
        initial=ApiToken.Scope.ADMIN,
    )
    days = forms.TypedChoiceField(
        label="Expires", choices=LIFETIMES, initial="90", required=False, coerce=int, empty_value=None
    )

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


@throttle_verbs
@page
@require_POST
def new_token(request: HttpRequest) -> HttpResponse:
    """The answer is the only page that ever shows the token's value."""
    form = TokenForm(request.POST)
    if not form.is_valid():
        return _page_of(request, PasswordForm(request.user), token_form=form, status=400)
    try:
        made, value = tokens.make_token(request.user, **form.cleaned_data)
    except InvalidInput as error:
        for name, sentences in error.fields.items():
            form.add_error(name, sentences)
        return _page_of(request, PasswordForm(request.user), token_form=form, status=400)
    response = _page_of(request, PasswordForm(request.user), made=made, key=value, status=201)
    response["Cache-Control"] = "no-store"
    return response


@page
@require_http_methods(["GET", "POST"])
def revoke_token(request: HttpRequest, pk: int) -> HttpResponse:
    """GET asks, POST does it."""
    token = tokens.tokens_of(request.user).filter(pk=pk).first()
    if token is None:
        raise NotFound(f"You have no token {pk}.")
    if request.method == "GET":
        return render(request, "account_ask.html", {"section": "account", "token": token})
    tokens.revoke_token(token)
    messages.success(request, f"The token {token.name} is revoked; nobody can log in with it any more.")
    return redirect("account")


def _page_of(
    request: HttpRequest,
    form: PasswordForm,
    *,
    token_form: TokenForm | None = None,
    made: ApiToken | None = None,
    key: str = "",
    status: int = 200,
) -> HttpResponse:
    context = {
        "section": "account",
        "form": form,
        "token_form": token_form or TokenForm(),
        "tokens": tokens.tokens_of(request.user),
        "made": made,
        "key": key,
        "teams": policy.own_teams(request.user),
    }
    return render(request, "account.html", context, status=status)
