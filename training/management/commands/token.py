"""The command line door to API tokens: `manage.py token VERB`. docs/commands.md lists the verbs."""

from __future__ import annotations

import json
from typing import Any

from training.management.base import VerbCommand, whole_from_1
from training.management.progress import printable, table
from training.models import ApiToken
from training.services import tokens


class Command(VerbCommand):
    help = (
        "Make API tokens, list and revoke them: those of the administrator, or with --as of another person."
    )

    def add_verbs(self) -> None:
        create = self.add_verb("create", "Make a token and print its value, this once", self.create)
        create.add_argument("name", metavar="NAME", help="what it is for")
        create.add_argument(
            "--scope", default=ApiToken.Scope.ADMIN, help="read, act, submit or admin (the default)"
        )
        create.add_argument(
            "--days", type=whole_from_1, metavar="N", help="until it expires (default: it does not)"
        )
        self.add_verb("list", "List the tokens", self.list)
        revoke = self.add_verb("revoke", "Revoke tokens: whoever uses them is refused at once", self.revoke)
        revoke.add_argument("names", metavar="NAME", nargs="+")

    def create(self, options: dict[str, Any]) -> None:
        made, value = tokens.make_token(
            self.user, name=options["name"], scope=options["scope"], days=options["days"]
        )
        self.say(_shape(made) | {"token": value}, value)

    def list(self, options: dict[str, Any]) -> None:
        shapes = [_shape(token) | {"expired": token.has_expired} for token in tokens.tokens_of(self.user)]
        if self.as_json:
            for shape in shapes:
                self.stdout.write(json.dumps(shape))
            return
        head = ("NAME", "SCOPE", "MADE", "LAST USED", "EXPIRES")
        self.stdout.write(table(head, [_row(shape) for shape in shapes]) if shapes else "No tokens.")

    def revoke(self, options: dict[str, Any]) -> int:
        def revoke_one(name: str) -> None:
            tokens.revoke_token(tokens.token_named(self.user, name))
            self.say({"name": name, "answer": "done"}, printable(f"Revoked {name}."))

        return self.each("token", options["names"], revoke_one)


def _shape(token: ApiToken) -> dict[str, Any]:
    times = {name: getattr(token, name) for name in ("created_at", "last_used_at", "expires_at")}
    shown = {name: moment and moment.isoformat(timespec="seconds") for name, moment in times.items()}
    return {"name": token.name, "user": token.user.get_username(), "scope": token.scope} | shown


def _row(shape: dict[str, Any]) -> tuple[Any, ...]:
    expires = f"{shape['expires_at'] or 'never'}{' (expired)' if shape['expired'] else ''}"
    last_used = shape["last_used_at"] or "never"
    return (shape["name"], shape["scope"], shape["created_at"], last_used, expires)
