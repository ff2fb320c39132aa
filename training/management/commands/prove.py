"""Prove on the running server that a training which was paused and resumed ends like one which was not.

Speaks REST alone, with the token that `make run` keeps: what it shows, any user can see.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from heimdall.certificate.chain import canonical
from heimdall.certificate.keys import public_keys_in
from heimdall.certificate.verdict import Verdict, verify_certificate
from heimdall.errors import InvalidInput
from training.management import config_options
from training.management.base import number_from_0
from training.management.commands.start import address, token_file

CONFIG = {
    "epochs": 6,  # enough steps to be paused between them on a quick machine
    "samples_per_epoch": 512,
    "max_chars": 100_000,
    "validation_split": 0.1,
    "device": "auto",
}
PRIORITY = 50  # ahead of what waits; a running job of lower priority makes room and goes on afterwards
ENDED = {"completed", "failed", "cancelled"}
CHECK_STEPS = 20
BUSY_SECONDS = 3.0  # no slot was idle for so long: other jobs have them, and no replay gets one soon
KEYS = "/.well-known/heimdall-keys.json"
LONGER = "Ask for a longer training, such as --set epochs=1000."


class Command(BaseCommand):
    help = "Train two equal small jobs on the running server, pause one twice, compare every bit, break restores."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--url", default="", help="the server (default: the one that make run starts here)"
        )
        parser.add_argument(
            "--recipe", default="language_model", help="another recipe, with its default config"
        )
        config_options.add_to(parser)
        parser.add_argument("--minutes", type=number_from_0, default=20, help="give up after so long (20)")

    def handle(self, *args: Any, **options: Any) -> None:
        self.server = Server(options["url"] or address())
        self.deadline = time.monotonic() + options["minutes"] * 60
        config = CONFIG if options["recipe"] == "language_model" else {}
        config = config | {"seed": int(time.time()) % 1_000_000} | _given(options)
        undisturbed = self._submit("Proof: undisturbed", options["recipe"], config)
        self._say(f"Two equal jobs: {undisturbed} runs through, the next is paused and resumed twice.")
        total = self._wait(undisturbed, lambda job: job["status"] in ENDED)["total_steps"]
        # Only now: with a second slot it would run beside the first, and could end before anybody watches it.
        paused = self._submit("Proof: paused", options["recipe"], config)
        self._pause(paused, "step", after=max(total // 5, 1))
        self._pause(paused, "epoch", after=max(total // 3, 2))
        self._wait(paused, lambda job: job["status"] in ENDED)
        self._compare(undisturbed, paused)
        self._certify(undisturbed, paused)
        self._break_on_purpose(options["recipe"], config)

    def _submit(self, name: str, recipe: str, config: dict[str, Any]) -> int:
        body = {"job_name": name, "recipe": recipe, "config": config, "priority": PRIORITY}
        return self.server.ask("POST", "/jobs", body)["id"]

    def _pause(self, job: int, at: str, *, after: int) -> None:
        seen = self._wait(job, lambda seen: seen["current_step"] >= after or seen["status"] in ENDED)
        if seen["status"] in ENDED:
            raise CommandError(
                f"Job {job} was {seen['status']} before it could be paused; nothing is proven. {LONGER}"
            )
        self.server.ask("POST", f"/jobs/{job}/pause", {"at": at})
        seen = self._wait(job, lambda seen: seen["status"] not in {"running", "queued"})
        if seen["status"] != "paused":
            raise CommandError(
                f"Job {job} was {seen['status']} before it could be paused; nothing is proven. {LONGER}"
            )
        words = "at a step" if at == "step" else "at the end of an epoch"
        self._say(
            f"Job {job} was paused {words}: step {seen['current_step']} of {seen['total_steps']}. Resuming."
        )
        self.server.ask("POST", f"/jobs/{job}/resume", {})

    def _wait(self, job: int, is_so: Any) -> dict[str, Any]:
        while True:
            seen = self.server.ask("GET", f"/jobs/{job}")
            if seen["status"] == "failed":
                why = (seen["error_message"].splitlines() or ["it does not say why"])[0]
                raise CommandError(f"Job {job} failed: {why}")
            if is_so(seen):
                return seen
            if time.monotonic() > self.deadline:
                raise CommandError(f"Job {job} is still {seen['status']}; giving up. Is a worker running?")
            time.sleep(0.05)

    def _compare(self, undisturbed: int, paused: int) -> None:
        seen = [self.server.ask("GET", f"/jobs/{job}") for job in (undisturbed, paused)]
        finals = [self._final(job) for job in (undisturbed, paused)]
        rows = [self.server.all(f"/jobs/{job}/metrics") for job in (undisturbed, paused)]
        for job, final in zip((undisturbed, paused), finals, strict=True):
            self._say(f"  job {job}: step {final['step']}, digest {final['digest']}")
        same_state = finals[0]["digest"] == finals[1]["digest"]
        same_metrics = len(rows[0]) == len(rows[1]) and all(map(_is_same, *rows))
        losses = [(job["train_loss"], job["val_loss"], job["best_epoch"]) for job in seen]
        self._say(
            f"  state: {_word(same_state)} ({finals[0]['size']} bytes: weights, optimizer, generators, progress)"
        )
        self._say(f"  metrics of {len(rows[0])} and {len(rows[1])} steps: {_word(same_metrics)}")
        self._say(f"  final losses {losses[0][:2]} and {losses[1][:2]}: {_word(losses[0] == losses[1])}")
        if not (same_state and same_metrics and losses[0] == losses[1]):
            raise CommandError("NOT PROVEN: the two jobs differ.")
        self._say(
            self.style.SUCCESS(
                "PROVEN: the paused and resumed job ended bit-identical to the undisturbed one."
            )
        )

    def _certify(self, *jobs: int) -> None:
        """Every stretch of both is trained again, and their certificates are looked at as a stranger would."""
        for job in jobs:
            self.server.ask("POST", f"/jobs/{job}/verify", {})
        self._say("Trained again in new processes, on slots that are idle:")
        waiting = self._wait_for_replays(jobs)
        if waiting:
            self._say(
                f"  no slot is idle: {waiting} replays wait until one is. What the certificates say now:"
            )
        keys = public_keys_in(json.dumps(self.server.ask("GET", f"{self.server.url}{KEYS}")))
        for job in jobs:
            document = canonical(self.server.ask("GET", f"/jobs/{job}/certificate")).encode() + b"\n"
            verdict = verify_certificate(document, keys=keys)
            for one in verdict.answers:
                if one.about == "replays" or not one.is_good:
                    self._say(f"  job {job}: {one.sentence}")
            if not verdict.is_good or not (waiting or _is_all_replayed(verdict)):
                raise CommandError(f"NOT PROVEN: the certificate of job {job} does not hold.")
            path = settings.DATA_DIR / f"job-{job}-certificate.json"
            path.write_bytes(document)
            self._say(f"  certificate of job {job}: {path}; heimdall verify {path.name} looks at it again")
        self._tamper_on_purpose(document, keys)

    def _wait_for_replays(self, jobs: Sequence[int]) -> int:
        """How many have not come to an end: other jobs go before them, and nobody waits here for days."""
        busy_since = None
        while states := [state for job in jobs for state in self._open_replays(job)]:
            now = time.monotonic()
            is_busy = "running" not in states and not self._has_idle_slot()
            busy_since = (busy_since or now) if is_busy else None
            if busy_since and now - busy_since > BUSY_SECONDS:
                break
            if now > self.deadline:
                raise CommandError(
                    f"{len(states)} stretches wait to be trained again; giving up. Is a worker running?"
                )
            time.sleep(0.1)
        return len(states)

    def _open_replays(self, job: int) -> list[str]:
        found = [one["state"] for one in self.server.all(f"/jobs/{job}/replays")]
        return [state for state in found if state in ("waiting", "running")]

    def _has_idle_slot(self) -> bool:
        return any(node["free_slots"] for node in self.server.all("/nodes"))

    def _tamper_on_purpose(self, document: bytes, keys: list[str]) -> None:
        for byte in range(0, len(document), max(len(document) // 50, 1)):
            changed = document[:byte] + bytes([document[byte] ^ 1]) + document[byte + 1 :]
            if verify_certificate(changed, keys=keys).is_good:
                raise CommandError(f"NOT PROVEN: byte {byte} of the certificate can be changed unnoticed.")
        self._say("  with a changed byte, at 50 places: noticed")

    def _break_on_purpose(self, recipe: str, config: dict[str, Any]) -> None:
        """A comparison that cannot fail proves nothing: on this machine each part of a restore is left out once."""
        self._say(
            "Would a fault be noticed? The same training here, with a restore that is broken on purpose:"
        )
        words = ["--recipe", recipe, "--config", json.dumps(config), "--steps", str(CHECK_STEPS), "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "heimdall.check", *words], capture_output=True, text=True, check=False
        )
        try:
            result = json.loads(done.stdout)
        except ValueError:
            raise CommandError(f"The check could not begin: {done.stderr.strip()[-500:]}") from None
        if result["verdict"] != "exact":
            raise CommandError(f"NOT PROVEN: {result['reason']}")
        for control in result["controls"]:
            seen = "noticed" if control["was_noticed"] else "changes nothing here: it could not be noticed"
            self._say(f"  without {control['left_out']}: {seen}")

    def _final(self, job: int) -> dict[str, Any]:
        for row in self.server.all(f"/jobs/{job}/checkpoints"):
            if "final" in row["kinds"]:
                return row
        raise CommandError(f"Job {job} has no final checkpoint; nothing is proven.")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _is_all_replayed(verdict: Verdict) -> bool:
    summary = verdict.statement["predicate"]["summary"] if verdict.statement else {}
    return bool(summary) and summary["steps_replayed"] == summary["steps"]


def _given(options: dict[str, Any]) -> dict[str, Any]:
    try:
        return config_options.read(options)
    except InvalidInput as error:
        raise CommandError(error.sentences) from error


def _is_same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    ignored = {"id", "job", "attempt", "created_at"}
    return all(one[name] == other.get(name) for name in one if name not in ignored)


def _word(same: bool) -> str:
    return "identical" if same else "DIFFERENT"


class Server:
    """The REST API, with the token that the server's machine keeps."""

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        try:
            self._token = token_file().read_text().strip()
        except OSError as error:
            raise CommandError(
                f"There is no API token in {token_file()}; start Heimdall with make run."
            ) from error

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        url = path if path.startswith("http") else f"{self.url}/v1/training{path}"
        headers = {"Authorization": f"Token {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(url, data, headers, method=method)
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise CommandError(f"{method} {url} was answered by {error.code}: {_sentence(error)}") from error
        except (OSError, HTTPException) as error:
            raise CommandError(
                f"{self.url} does not answer ({error}); start Heimdall with make run."
            ) from error
        except ValueError as error:
            raise CommandError(
                f"{self.url} is no Heimdall, or no address like {address()}: {error}."
            ) from error

    def all(self, path: str) -> list[dict[str, Any]]:
        """Every row of a paged list."""
        rows, next_page = [], path
        while next_page:
            page = self.ask("GET", next_page)
            rows += page["results"]
            next_page = page.get("next") or ""
        return rows


def _sentence(error: urllib.error.HTTPError) -> str:
    """What the API says of a refusal."""
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError, OSError):
        return "no answer of Heimdall's API. Is the address right?"
