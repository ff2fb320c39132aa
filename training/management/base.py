"""What commands with verbs have in common: who asks, how a refusal becomes one sentence and an exit code."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from heimdall.errors import HeimdallError
from training.errors import NotAllowed, NotFound, TransitionRefused
from training.presentation import params
from training.presentation.errors import describe

REFUSED, NOT_ALLOWED, NOT_FOUND = 3, 4, 5


class VerbCommand(BaseCommand):
    """A command whose verbs are asked by a user. A subclass adds them with `add_verb`, each with what does it."""

    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        self._verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        self.add_verbs()

    def add_verbs(self) -> None:
        raise NotImplementedError

    def add_verb(self, name: str, does: str, act: Callable[[dict[str, Any]], int | None]) -> CommandParser:
        """`act` gets the options and returns the exit code; None is 0."""
        found = self.add_verb_for_all(name, does, act)
        found.add_argument(
            "--as",
            dest="user",
            metavar="USER",
            help="who asks (default: $HEIMDALL_USER, else the first administrator)",
        )
        found.add_argument(
            "--json", action="store_true", dest="as_json", help="print JSON, one object a line"
        )
        return found

    def add_verb_for_all(
        self, name: str, does: str, act: Callable[[dict[str, Any]], int | None]
    ) -> CommandParser:
        """The same for what touches no job and no database: nobody is asked for."""
        found = self._verbs.add_parser(name, help=does, description=does + ".")
        found.set_defaults(act=act)
        return found

    def handle(self, *args: Any, act: Callable[[dict[str, Any]], int | None], **options: Any) -> None:
        self.as_json = options.get("as_json", False)
        with one_sentence():
            if "user" in options:
                self.user = user_named(options["user"])
            try:
                code = act(options)
            except HeimdallError as error:
                self.show_refusal(error)
                raise
            except BrokenPipeError:  # the reader of a pipe has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                code = 0
        if code:
            sys.exit(code)

    def each(self, kind: str, names: Iterable[Any], act: Callable[[Any], int | None]) -> int:
        """Ask one after the other, whatever becomes of the others. The exit code of the first that was refused."""
        codes = [self._one(kind, name, act) for name in names]
        return next((code for code in codes if code), 0)

    def _one(self, kind: str, name: Any, act: Callable[[Any], int | None]) -> int:
        try:
            return act(name) or 0
        except HeimdallError as error:
            self.show_refusal(error)
            self.stderr.write(f"{kind} {name}: {error}")
            return code_of(error)

    def say(self, shape: dict[str, Any], sentence: str) -> None:
        self.stdout.write(json.dumps(shape) if self.as_json else sentence)

    def show_refusal(self, error: HeimdallError) -> None:
        """To scripts: people read the sentence on the other output."""
        if self.as_json:
            self.stdout.write(json.dumps(describe(error)))


@contextmanager
def one_sentence() -> Iterator[None]:
    """What is refused, or cannot be, ends the command with one sentence and the exit code for it."""
    try:
        yield
    except HeimdallError as error:
        raise CommandError(str(error), returncode=code_of(error)) from error
    except DatabaseError as error:
        raise CommandError(database_is_away(error)) from error
    except UnicodeEncodeError as error:
        raise CommandError(f"{error.object[:60]!r} is not text in UTF-8.") from error


def database_is_away(error: Exception) -> str:
    return (
        f"The database is unavailable: {one_line(error)}. If it is new: manage.py migrate makes its tables."
    )


def one_line(error: object) -> str:
    """Libraries of databases break their sentences into lines."""
    return " ".join(str(error).split()).rstrip(".")


def code_of(error: HeimdallError) -> int:
    codes = {TransitionRefused: REFUSED, NotAllowed: NOT_ALLOWED, NotFound: NOT_FOUND}
    return next((code for kind, code in codes.items() if isinstance(error, kind)), 1)


def user_named(name: str | None) -> User:
    """Who asks: anybody who can run this may read the database, so a name is enough."""
    name = name or os.environ.get("HEIMDALL_USER")
    people = User.objects.filter(is_active=True)
    if name:
        user, missing = people.filter(username=name).first(), f"There is no active user {name}."
    else:
        user = people.filter(is_superuser=True).order_by("pk").first()
        missing = "There is no administrator; say who asks: --as USER."
    if user is None:
        raise CommandError(missing)
    return user


def whole(text: str, *, low: int = 0) -> int:
    """The type of an argument: a whole number from 0."""
    try:
        return params.Number("number", "", low=low).read_one(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def whole_from_1(text: str) -> int:
    return whole(text, low=1)


def number_from_0(text: str) -> float:
    """The type of an argument: any number from 0, such as one of seconds."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError("Give a number from 0.")
    return number
