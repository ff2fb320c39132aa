"""What every command has in common: the server that is asked, its words on the screen, its exit code."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heimdall.client.command import exits
from heimdall.errors import HeimdallError, InvalidInput

if TYPE_CHECKING:
    from heimdall.client.synchronous.client import Client

app = typer.Typer(
    name="heimdall",
    help="Submit, watch and steer trainings on a Heimdall server.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
chosen: dict[str, str | None] = {"profile": None}


Json = Annotated[bool, typer.Option("--json", help="Print JSON: one object a line.")]
JobNumber = Annotated[int, typer.Argument(min=1, metavar="JOB", help="The number of the job.")]
JobNumbers = Annotated[list[int], typer.Argument(min=1, metavar="JOB...", help="Numbers of jobs.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the job is at rest. Ctrl-C leaves it alone.")]
Timeout = Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Wait no longer than this.")]


@app.callback()
def _options(
    profile: Annotated[
        str | None, typer.Option("--profile", "-p", help="The server, by the name that `login` gave it.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version of this client.")] = False,
) -> None:
    chosen["profile"] = profile


def command(name: str, **options: Any) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Register a command: what it returns is its exit code, and what is raised on purpose becomes a sentence."""

    def register(function: Callable[..., int | None]) -> Callable[..., None]:
        @functools.wraps(function)
        def guarded(**given: Any) -> None:
            with reported(as_json=bool(given.get("as_json"))):
                raise typer.Exit(function(**given) or 0)

        guarded.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
        app.command(name, **options)(guarded)
        return function  # type: ignore[return-value]

    return register


@contextmanager
def reported(*, as_json: bool = False) -> Iterator[None]:
    """One sentence on standard error, and with --json the error as the API has it on standard output."""
    try:
        yield
    except HeimdallError as error:
        if as_json:
            print(as_json_line({"error": described(error)}))
        complain(str(error))
        raise typer.Exit(exits.code_of(error)) from error
    except KeyboardInterrupt:
        complain("Stopped looking. The server and its jobs go on.")
        raise typer.Exit(exits.STOPPED) from None
    except BrokenPipeError:
        sys.stderr.close()  # or Python complains of it when it flushes
        raise typer.Exit(0) from None


def described(error: HeimdallError) -> dict[str, Any]:
    found: dict[str, Any] = {"code": error.code, "message": str(error)}
    names = ("fields", "status", "verbs")
    return found | {name: getattr(error, name) for name in names if getattr(error, name, None)}


def client() -> Client:
    """The server that is meant. httpx is imported here, where it is needed, and without its own command, which would
    bring rich and others along before they are needed."""
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # as where its extra `cli` is not installed
    from heimdall.client.synchronous.client import Client

    return Client(profile=chosen["profile"])


def say(shown: Any, sentence: str, *, as_json: bool) -> None:
    print(as_json_line(shown) if as_json else printable(sentence), flush=True)


def complain(sentence: str) -> None:
    print(f"heimdall: {printable(sentence)}", file=sys.stderr, flush=True)


def as_json_line(shown: Any) -> str:
    """JSON that steers no terminal either: it has another way to write such signs."""
    text = json.dumps(shown, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text)


def printable(text: str) -> str:
    """Without what steers a terminal: names and errors are other people's text."""
    return "".join(sign if sign in "\n\t" or sign.isprintable() else "\ufffd" for sign in text)


def each(numbers: list[int], act: Callable[[int], None], *, as_json: bool) -> int:
    """All are asked; the code of the first that was refused."""
    first = 0
    for number in dict.fromkeys(numbers):
        try:
            act(number)
        except HeimdallError as error:
            if exits.code_of(error) in {exits.UNREACHABLE, exits.LOGGED_OUT}:
                raise
            if as_json:
                print(as_json_line({"id": number, "error": described(error)}))
            complain(str(error))
            first = first or exits.code_of(error)
    return first


def one_of(field: str, value: str, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise InvalidInput({field: [f"{value[:40]!r} is not one of: {', '.join(choices)}."]})
    return value


def is_terminal() -> bool:
    return sys.stdout.isatty()
