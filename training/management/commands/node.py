"""The command line door to the hosts: `manage.py node VERB`. docs/commands.md lists the verbs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError
from django.template.defaultfilters import filesizeformat

from training import services
from training.errors import HeimdallError, NotFound
from training.management.commands.job import code_of, user_named
from training.management.progress import printable, table
from training.models import Node
from training.queries.nodes import node_dicts, node_event_dict, node_events

SAYS = {
    "drain": "Land the jobs of nodes and give them no more",
    "undrain": "Let nodes take jobs again",
    "remove": "Take out silent nodes",
}


class Command(BaseCommand):
    help = "Look at the hosts, drain them and take them out."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

        def add(name: str, does: str, act: Callable[[dict[str, Any]], None]) -> argparse.ArgumentParser:
            found = verbs.add_parser(name, help=does, description=does + ".")
            found.add_argument(
                "--as",
                dest="user",
                metavar="USER",
                help="who asks (default: $HEIMDALL_USER, else the first administrator)",
            )
            found.add_argument(
                "--json", action="store_true", dest="as_json", help="print JSON, one object a line"
            )
            found.set_defaults(act=act)
            return found

        add("list", "List the nodes", self.list)
        add("show", "Show a node and its history", self.show).add_argument("names", metavar="NAME", nargs=1)
        for verb, does in SAYS.items():
            add(verb, does, self.ask).add_argument("names", metavar="NAME", nargs="+")

    def handle(self, *args: Any, **options: Any) -> None:
        self.as_json = options["as_json"]
        self.user = user_named(options["user"])
        try:
            options["act"](options)
        except HeimdallError as error:
            raise CommandError(str(error), returncode=code_of(error)) from error
        except DatabaseError as error:
            raise CommandError(f"The database does not answer: {error}. Was it migrated?") from error

    def list(self, options: dict[str, Any]) -> None:
        nodes = node_dicts(Node.objects.all(), self.user)
        if self.as_json:
            for node in nodes:
                self.stdout.write(json.dumps(node))
            return
        head = ("NAME", "STATE", "SLOTS", "FREE", "MEMORY FREE", "POOLS", "JOBS")
        self.stdout.write(table(head, [_row(node) for node in nodes]) if nodes else "No nodes.")

    def show(self, options: dict[str, Any]) -> None:
        node = _find(options["names"][0])
        shown = node_dicts([node], self.user)[0]
        events = [node_event_dict(event) for event in node_events(node.name)]
        if self.as_json:
            self.stdout.write(json.dumps(shown | {"events": events}))
            return
        lines = [
            f"{name:18}{value if isinstance(value, str) else json.dumps(value)}"
            for name, value in shown.items()
        ]
        lines += [f"{event['created_at']}  {event['message']} ({event['actor']})" for event in events]
        self.stdout.write(printable("\n".join(lines)))

    def ask(self, options: dict[str, Any]) -> None:
        """Each by itself: what is refused stops the rest, for it was named for a reason."""
        for name in options["names"]:
            word, sentence = services.NODE_VERBS[options["verb"]](_find(name), by=self.user)
            answer = {"name": name, "answer": str(word), "message": sentence}
            self.stdout.write(json.dumps(answer) if self.as_json else sentence)


def _find(name: str) -> Node:
    found = Node.objects.filter(name=name).first()
    if found is None:
        raise NotFound(f"There is no node {name}.")
    return found


def _row(node: dict[str, Any]) -> tuple[Any, ...]:
    jobs = ",".join(str(slot["job"] or "?") for slot in node["slots"] if slot["is_taken"])
    free = filesizeformat(node["memory_free"]).replace("\xa0", " ") if node["memory_free"] else ""
    return (
        node["name"],
        node["state"],
        len(node["slots"]),
        node["free_slots"],
        free,
        ",".join(node["pools"]),
        jobs,
    )
