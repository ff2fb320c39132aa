"""Disturb a training on a live server again and again, and have all of it trained again: the certificate is complete.

    python -m tests.certificate.certify --count 50 --seed 7        the same seed makes the same choices

Pauses at a step and at an epoch's end, killed trainers and supervisors, drained and killed workers, and a fork at the
end. Then every stretch of the training is replayed, and the certificate is checked without the server.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from heimdall.certificate.chain import canonical
from heimdall.certificate.keys import public_keys_in
from heimdall.certificate.verdict import Verdict, verify_certificate
from tests.support.running import PATIENCE, Answer, Site, TookTooLong, running

KINDS = (
    "pause at a step",
    "pause at an epoch's end",
    "kill the trainer",
    "kill the supervisor",
    "drain",
    "kill the worker",
)
STEPS_BETWEEN = 3
STEPS_IN_AN_EPOCH = 5


class Certifying:
    def __init__(self, site: Site, *, count: int, seed: int) -> None:
        self.site, self.count = site, count
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()

    def run(self) -> int:
        """Returns the job, completed."""
        epochs = self.count * (STEPS_BETWEEN + 4) // STEPS_IN_AN_EPOCH + 2
        job = self.site.submit(
            epochs=epochs, samples=160, step_seconds=0.05, checkpoint_every_epochs=1, keep_last=3, seed=5
        )
        for number in range(self.count):
            self.site.wait_for(job, self._is_to_be_disturbed(number), seconds=120)
            if self.site.job(job)["status"] == "completed":
                break
            self._disturb(job)
        self.site.wait_for(job, lambda seen: self._is_over(job, seen), seconds=180)
        return job

    def _is_to_be_disturbed(self, number: int) -> Any:
        def predicate(seen: dict[str, Any]) -> bool:
            self._mend()
            is_there = seen["status"] == "running" and seen["current_step"] >= number * STEPS_BETWEEN + 1
            return is_there or seen["status"] == "completed"

        return predicate

    def _disturb(self, job: int) -> None:
        kind = self.random.choice(KINDS)
        with suppress(psutil.Error, Answer, OSError):
            getattr(self, "_" + kind.replace(" ", "_").replace("'", ""))(job)
            self.done[kind] += 1
        self._mend()

    def _pause_at_a_step(self, job: int) -> None:
        self._pause(job, "step")

    def _pause_at_an_epochs_end(self, job: int) -> None:
        self._pause(job, "epoch")

    def _pause(self, job: int, at: str) -> None:
        self.site.pause(job, at)
        self.site.wait_for(job, lambda seen: seen["status"] in ("paused", "completed"), seconds=60)
        with suppress(Answer):
            self.site.verb(job, "resume")

    def _kill_the_trainer(self, job: int) -> None:
        self._kill(self.site.named("heimdall trainer", f"job {job}"))

    def _kill_the_supervisor(self, job: int) -> None:
        self._kill(self.site.named("heimdall supervisor", f"job {job}"))

    def _drain(self, job: int) -> None:
        assert self.site.worker
        self.site.worker.send_signal(signal.SIGTERM)
        self.site.worker.wait(timeout=60 * PATIENCE)

    def _kill_the_worker(self, job: int) -> None:
        assert self.site.worker
        psutil.Process(self.site.worker.pid).kill()

    def _kill(self, processes: list[psutil.Process]) -> None:
        for process in processes:
            process.kill()

    def _mend(self) -> None:
        """What an init system would do."""
        if self.site.worker is not None and self.site.worker.poll() is not None:
            self.site.start_worker()

    def _is_over(self, job: int, seen: dict[str, Any]) -> bool:
        self._mend()
        if seen["status"] in ("paused", "failed"):
            with suppress(Answer):
                self.site.verb(job, "resume")
        return seen["status"] == "completed"


def replayed(site: Site, job: int, *, seconds: float = 300) -> list[dict[str, Any]]:
    """Have everything trained again, and wait until it is."""
    site.post(f"/jobs/{job}/verify")
    return every_replay(site, job, seconds=seconds)


def every_replay(site: Site, job: int, *, seconds: float = 60) -> list[dict[str, Any]]:
    """All that were ever asked for, as soon as none is open."""

    def asked() -> list[dict[str, Any]]:
        found = site.get(f"/jobs/{job}/replays")["results"]
        return found if all(one["state"] not in ("waiting", "running") for one in found) else []

    return site.wait_until(asked, seconds=seconds, about=lambda: str(site.get(f"/jobs/{job}/replays")))


def verified(site: Site, job: int) -> Verdict:
    """The certificate, as somebody looks at it who has it and the server's page of keys."""
    keys = public_keys_in(canonical(site.request("GET", "/.well-known/heimdall-keys.json")))
    document = canonical(site.get(f"/jobs/{job}/certificate")).encode() + b"\n"
    return verify_certificate(document, keys=keys)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="heimdall-certify-") as folder,
        running(Path(folder), HEIMDALL_HASH_SECONDS="0.5") as site,
    ):
        certifying = Certifying(site, count=options.count, seed=options.seed)
        try:
            job = certifying.run()
            found = replayed(site, job)
        except TookTooLong as error:
            print(error)
            return 1
        verdict = verified(site, job)
    for kind, times in sorted(certifying.done.items()):
        print(f"  {times:4} times: {kind}")
    for one in verdict.answers:
        print(f"  {'ok ' if one.is_good else 'BAD'} {one.about}: {one.sentence}")
    different = [one for one in found if one["state"] != "equal"]
    times = sum(certifying.done.values())
    print(f"{times} disturbances, {len(found)} replays, {len(different)} not equal: {different[:2]}")
    assert verdict.statement
    summary = verdict.statement["predicate"]["summary"]
    print(f"{summary}; {time.monotonic() - began:.0f} s")
    is_all = summary["steps_replayed"] == summary["steps"] and summary["is_complete"]
    return 0 if verdict.is_good and is_all and not different else 1


if __name__ == "__main__":
    sys.exit(main())
