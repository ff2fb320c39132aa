"""docs/protocol.md, made from the classes of the protocol: `python -m heimdall.trainer.protocol_page`."""

import sys
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from heimdall.trainer import protocol


def page() -> str:
    """docs/protocol.md: a table of all messages."""
    rows = [
        f"| {one.direction} | `{one.kind}` | {_fields_shown(one)} | {_meaning(one)} |"
        for one in protocol.messages()
    ]
    return _PAGE.format(version=protocol.VERSION, rows="\n".join(rows))


def _fields_shown(found: type[protocol.WireMessage]) -> str:
    hints = get_type_hints(found)
    shown = (f"`{one.name}`: {_type_shown(hints[one.name])}" for one in fields(found))
    return ", ".join(shown)


def _type_shown(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return text.replace("typing.", "").replace("collections.abc.", "").replace("|", "or")


def _meaning(found: type[protocol.WireMessage]) -> str:
    return " ".join((found.__doc__ or "").split())


_PAGE = """# What a supervisor and a trainer say to each other

The page is made by `python -m heimdall.trainer.protocol_page` from the classes in `heimdall/trainer/protocol.py`; a
test keeps it true.

A trainer is a process of its own. Three pipes join it to its supervisor: control (down), messages (up), and the log
(what it prints, up). Control and messages carry one JSON object a line: `kind` and the fields below. NaN and the
infinities travel as the strings "nan", "inf" and "-inf". The first line down is `spec`, the first line up is `hello`.
Both carry the version, which is {version}; an end that finds another one refuses with a sentence. What drives the
trainer is the module that `spec` names in `driver`: its `run(channel)` does the work and returns the exit code.

The order of a training: `spec` and `hello`, then `started`, then `steps`, `epoch`, `phase` and `staged` as they come.
A `stop` is answered by `stopped` when everything is staged, and that by `go_on` or `exit`. The end is `finished`,
answered by `exit`, or `failed`. Each staged file is answered by `stored`.

| direction | kind | fields | meaning |
|---|---|---|---|
{rows}
"""


if __name__ == "__main__":
    sys.stdout.write(page())
