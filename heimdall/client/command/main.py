"""`heimdall`: every command, registered where it is written."""

from __future__ import annotations

import sys

from heimdall.client.command import acting, exchanging, files, logging_in, making, reading, watching
from heimdall.client.command.base import app

__all__ = ["acting", "exchanging", "files", "logging_in", "main", "making", "reading", "watching"]


ORDER = (
    "login", "submit", "ls", "show", "logs", "watch", "pause", "resume", "cancel", "wait", "restart", "discard",
    "delete", "edit", "clone", "fork", "extend", "compare", "checkpoints", "get", "nodes", "queue", "recipes",
    "export", "import", "bundle", "check", "replay", "certificate", "verify", "servers", "use", "whoami", "logout",
)  # fmt: skip
"""In which the help names them: as they are met."""


def main(words: list[str] | None = None) -> None:
    words = list(sys.argv[1:] if words is None else words)
    app.registered_commands.sort(key=lambda one: ORDER.index(str(one.name)))
    if words == ["--version"]:
        from heimdall import __version__

        print(f"heimdall {__version__}")
        return
    app(args=marked(words), prog_name="heimdall")


def marked(words: list[str]) -> list[str]:
    """Whether a program stands behind `--` cannot be seen any more once the line is parsed: a flag says so."""
    if "--" not in words:
        return words
    place = words.index("--")
    takes_program = any(word in {"submit", "check"} for word in words[:place])
    return [*words[:place], "--program", *words[place:]] if takes_program else words


if __name__ == "__main__":
    main()
