"""Writes docs/settings.md and deploy/.env.example from heimdall/site/variables.py: `make settings`."""

from __future__ import annotations

from pathlib import Path

from heimdall.site.variables import GROUPS, Group, Variable

ROOT = Path(__file__).parents[2]
PAGE, EXAMPLE = ROOT / "docs/settings.md", ROOT / "deploy/.env.example"

PAGE_HEAD = """# Settings

All settings come from the environment. A bad value stops the start and names its variable. Web server, workers and
commands of one installation get the same settings; what belongs to one host says so. `deploy/.env.example` is a file
with all of them to start from.

Written from `heimdall/site/variables.py` by `make settings`; a test fails when this page is stale. Do not edit it.
"""
EXAMPLE_HEAD = """\
# Every variable of Heimdall; docs/settings.md says what each is. A line that is commented out shows the default.
# systemd: copy it to /etc/heimdall/environment, owned by root, mode 0600. Containers: copy it to deploy/.env, where
# deploy/compose.yaml overrides what its own parts decide: data folder, database, Redis, bucket and proxy.
# Written by `make settings`; a test fails when it is stale.
"""
EXAMPLE_TAIL = """
# Of deploy/compose.yaml alone: the passwords of the parts that it starts. There are no defaults. One is part of a
# URL, so take letters and digits: openssl rand -hex 24
# POSTGRES_PASSWORD=
# MINIO_ROOT_PASSWORD=
"""


def page() -> str:
    return "\n".join([PAGE_HEAD, *map(_table, GROUPS)])


def example() -> str:
    return "\n".join([EXAMPLE_HEAD, *map(_lines, GROUPS)]) + EXAMPLE_TAIL


def _table(group: Group) -> str:
    rows = (f"| `{one.name}` | {_default(one)} | {one.what} |" for one in group.variables)
    return "\n".join(
        [f"## {group.title}\n", "| variable | default | what it is |", "|---|---|---|", *rows, ""]
    )


def _default(variable: Variable) -> str:
    if variable.otherwise:
        return variable.otherwise
    return f"`{variable.default}`" if variable.default else "none"


def _lines(group: Group) -> str:
    return "\n".join([f"# {group.title}", *map(_line, group.variables), ""])


def _line(variable: Variable) -> str:
    if variable.deployed:
        return f"{variable.name}={variable.deployed}"
    return f"# {variable.name}={variable.default or ''}"


if __name__ == "__main__":
    PAGE.write_text(page())
    EXAMPLE.write_text(example())
