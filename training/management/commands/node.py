"""The command line door to the hosts: `manage.py node VERB`. docs/commands.md lists the verbs."""

from __future__ import annotations

import json
from typing import Any

from django.template.defaultfilters import filesizeformat

from training import services
from training.errors import NotFound
from training.management.base import VerbCommand
from training.management.progress import printable, table
from training.models import Node
from training.queries.nodes import node_dicts, node_event_dict, node_events

SAYS = {
    "drain": "Land the jobs of nodes and give them no more",
    "undrain": "Let nodes take jobs again",
    "remove": "Take out silent nodes",
}


class Command(VerbCommand):
    help = "Look at the hosts, drain them and take them out."

    def add_verbs(self) -> None:
        self.add_verb("list", "List the nodes", self.list)
        self.add_verb("show", "Show a node and its history", self.show).add_argument("name", metavar="NAME")
        for verb, does in SAYS.items():
            self.add_verb(verb, does, self.ask).add_argument("names", metavar="NAME", nargs="+")

    def list(self, options: dict[str, Any]) -> None:
        nodes = node_dicts(Node.objects.all(), self.user)
        if self.as_json:
            for node in nodes:
                self.stdout.write(json.dumps(node))
            return
        head = ("NAME", "STATE", "SLOTS", "FREE", "MEMORY FREE", "POOLS", "ENVIRONMENTS", "JOBS")
        self.stdout.write(table(head, [_row(node) for node in nodes]) if nodes else "No nodes.")

    def show(self, options: dict[str, Any]) -> None:
        node = _find(options["name"])
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

    def ask(self, options: dict[str, Any]) -> int:
        act = services.NODE_VERBS[options["verb"]]

        def ask_one(name: str) -> None:
            word, sentence = act(_find(name), by=self.user)
            self.say({"name": name, "answer": str(word), "message": sentence}, sentence)

        return self.each("node", options["names"], ask_one)


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
        ",".join(node["environments"]),
        jobs,
    )
