"""The command line door to sweeps: `manage.py sweep VERB`. docs/sweeps.md tells what they do."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from heimdall.errors import InvalidInput
from training import services
from training.management.base import VerbCommand
from training.management.progress import printable, table
from training.models import Sweep
from training.queries.sweeps import leaders, saved_by_pausing, sweep_dict
from training.sweeps.plan import GOALS, STOPPERS, SUGGESTERS
from training.sweeps.written import read_written

SAYS = {
    "pause": "Pause all jobs of sweeps and start no new ones",
    "resume": "Go on with paused sweeps",
    "cancel": "End sweeps: their queued and running jobs are cancelled",
    "delete": "Delete sweeps that are over; their jobs stay",
}
_STEERS = {
    "pause": services.pause_sweep,
    "resume": services.resume_sweep,
    "cancel": services.cancel_sweep,
    "delete": services.delete_sweep,
}
_NUMBERS = ("jobs", "repeats", "at_once", "first_epochs", "eta", "seed")


class Command(VerbCommand):
    help = "Begin sweeps over settings, look at them and steer them."

    def add_verbs(self) -> None:
        self._takes_a_sweep(self.add_verb("submit", "Begin a sweep over a recipe", self.submit))
        self.add_verb("list", "List the sweeps", self.list)
        self.add_verb("show", "Show a sweep and its leaders", self.show).add_argument("number", type=int)
        more = self.add_verb("extend", "Try more combinations", self.extend)
        more.add_argument("number", type=int)
        more.add_argument("--jobs", type=int, required=True, help="how many more")
        for verb, does in SAYS.items():
            self.add_verb(verb, does, self.steer).add_argument(
                "numbers", type=int, nargs="+", metavar="NUMBER"
            )

    def _takes_a_sweep(self, parser: ArgumentParser) -> None:
        parser.add_argument("recipe")
        parser.add_argument(
            "--search", action="append", default=[], metavar="SETTING=VALUES", dest="lines",
            help="learning_rate='log 1e-4 .. 0.1', optimizer='adamw, sgd'; once for each setting",
        )  # fmt: skip
        parser.add_argument(
            "--space", metavar="FILE", help="the same from a file, a setting a line or as JSON"
        )
        parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE", help="of all jobs")
        parser.add_argument("--name", default="")
        parser.add_argument("--suggester", choices=SUGGESTERS)
        parser.add_argument("--stopper", choices=STOPPERS)
        parser.add_argument("--metric")
        parser.add_argument("--goal", choices=GOALS)
        for name in _NUMBERS:
            parser.add_argument(f"--{name.replace('_', '-')}", type=int, dest=name)

    def submit(self, options: dict[str, Any]) -> None:
        text = Path(options["space"]).read_text() if options["space"] else "\n".join(options["lines"])
        names = ("suggester", "stopper", "metric", "goal", *_NUMBERS)
        sweep = services.submit_sweep(
            by=self.user,
            name=options["name"] or f"{options['recipe']} sweep",
            recipe=options["recipe"],
            space=read_written(text),
            plan={name: options[name] for name in names if options[name] is not None},
            config=dict(_setting(one) for one in options["set"]),
        )
        self.say(self._shape(sweep), f"Sweep {sweep.pk} has begun.")

    def list(self, options: dict[str, Any]) -> None:
        shapes = [self._shape(one) for one in services.visible_sweeps(self.user)[:200]]
        if self.as_json:
            for shape in shapes:
                self.stdout.write(json.dumps(shape))
            return
        rows = [
            (one["id"], one["name"], one["state"], f"{one['num_started']}/{one['num_jobs']}", one["owner"])
            for one in shapes
        ]
        head = ("ID", "NAME", "STATE", "JOBS", "OWNER")
        self.stdout.write(printable(table(head, rows)) if rows else "No sweeps.")

    def show(self, options: dict[str, Any]) -> None:
        sweep = services.sweep_named(options["number"], by=self.user)
        leading, saved = leaders(sweep, self.user), saved_by_pausing(sweep)
        if self.as_json:
            self.stdout.write(json.dumps(self._shape(sweep) | {"leaders": leading} | saved))
            return
        trained = f"{saved['epochs_trained']} of {saved['epochs_of_all']} epochs trained"
        self.stdout.write(printable(f"{sweep.name} (sweep {sweep.pk}): {sweep.state}, {trained}"))
        rows = [
            (
                row["number"] + 1,
                "" if row["value"] is None else f"{row['value']:.6g}",
                row["at_epoch"],
                " ".join(f"{name}={value}" for name, value in row["params"].items()),
                ",".join(str(job["id"]) for job in row["jobs"]),
            )
            for row in leading[:20]
        ]
        self.stdout.write(
            printable(table(("NO.", sweep.plan["metric"].upper(), "EPOCH", "SETTINGS", "JOBS"), rows))
        )

    def extend(self, options: dict[str, Any]) -> None:
        sweep = services.sweep_named(options["number"], by=self.user)
        services.extend_sweep(sweep, jobs=options["jobs"], by=self.user)
        self.say(self._shape(sweep), f"Sweep {sweep.pk} tries {options['jobs']} combinations more.")

    def steer(self, options: dict[str, Any]) -> int:
        act = _STEERS[options["verb"]]

        def steer_one(number: int) -> None:
            act(services.sweep_named(number, by=self.user), by=self.user)
            self.say({"sweep": number, "verb": options["verb"]}, f"Sweep {number}: {options['verb']} done.")

        return self.each("sweep", options["numbers"], steer_one)

    def _shape(self, sweep: Sweep) -> dict[str, Any]:
        return sweep_dict(sweep, self.user, services.verbs_of_sweep(sweep, self.user))


def _setting(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise InvalidInput({"set": [f"{text!r} is no SETTING=VALUE."]})
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
