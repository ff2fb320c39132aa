"""Random kills of live processes under running jobs; at the end nothing is lost, doubled or different.

    python -m tests.faults.chaos --kills 100 --seed 7        the same seed makes the same choices

Jobs with the same configs are trained undisturbed first. Then jobs run while their trainers, loader workers,
supervisors, fork servers, the queue's processes, the worker and the web server are killed, stopped or told to end,
and pauses and resumes come by REST. Afterwards each job must be completed, with the digest, the metrics and one event
for each epoch of its undisturbed twin.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tests.support.running import PATIENCE, Answer, Site, TookTooLong, running, told

EPOCHS, STEPS = 5, 5  # steps in an epoch
CONFIGS: list[dict[str, Any]] = [
    {"seed": 1},
    {"seed": 2, "num_workers": 2},
    {"seed": 3, "ema_decay": 0.9, "grad_accumulation": 2, "batch_size": 16, "warmup_epochs": 1},
]
GANG = {"seed": 4, "devices": 2}  # of its trainer a random rank is killed
SHARED = {"epochs": EPOCHS, "samples": 160, "step_seconds": 0.08, "checkpoint_every_minutes": 0}
JOBS_AT_ONCE = 3
KINDS = {  # what is done, and how often beside the others
    "kill trainer": 4,
    "kill loader worker": 2,
    "kill supervisor": 3,
    "kill fork server": 2,
    "kill zygote": 1,
    "kill worker": 1,
    "kill queue head": 1,
    "kill queue pusher": 1,
    "kill idle queue process": 1,
    "kill web": 1,
    "stop and continue trainer": 2,
    "stop and continue supervisor": 2,
    "terminate worker": 2,
    "pause and resume": 3,
}
HARMLESS = {"pause and resume"}


class Chaos:
    def __init__(
        self,
        site: Site,
        *,
        kills: int,
        seed: int,
        configs: Sequence[dict[str, Any]] = CONFIGS,
        say: Callable[[str], None] = print,
    ):
        self.site, self.kills, self.configs, self.say = site, kills, configs, say
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.jobs: dict[int, int] = {}  # job -> number of its config
        self.killed_at: dict[int, int] = {}  # job -> step at which its trainer was killed last
        self.undisturbed: list[int] = []

    def run(self) -> None:
        self.undisturbed = [self._submit(number) for number in range(len(self.configs))]
        for job in self.undisturbed:
            self._wait(lambda job=job: self._row(job)["status"] == "completed", 120, f"job {job} undisturbed")
        self.say(f"{len(self.configs)} undisturbed jobs are completed; the kills begin.")
        while sum(count for kind, count in self.done.items() if kind not in HARMLESS) < self.kills:
            self._keep_jobs_coming()
            self._disturb()
        for job in self.jobs:
            self._wait(lambda job=job: self._is_over(job), 180, f"job {job} at the end")
        for job, number in self.jobs.items():
            self._verify(job, self.undisturbed[number])

    # What is done to the processes.

    def _disturb(self) -> None:
        job = self._a_job_that_trains()
        kind = self.random.choices(list(KINDS), list(KINDS.values()))[0]
        time.sleep(self.random.uniform(0.0, 0.4))
        act = getattr(self, "_" + kind.replace(" ", "_"))
        with suppress(psutil.Error, Answer, OSError):
            if act(job):
                self.done[kind] += 1
                self.say(
                    f"  {sum(self.done.values()):4d}  {kind}, job {job} at step {self._row(job)['current_step']}"
                )
        self._mend()

    def _kill_trainer(self, job: int) -> bool:
        if self._row(job)["current_step"] <= self.killed_at.get(job, 0):
            return False  # dying again and again at one step fails a job, as it should
        self.killed_at[job] = self._row(job)["current_step"]
        return self._kill(self._trainers(job))

    def _kill_loader_worker(self, job: int) -> bool:
        """Of any job: they live only while an epoch lasts."""
        for other in [job, *self.jobs]:
            step = self._row(other)["current_step"]
            workers = [child for trainer in self._trainers(other) for child in trainer.children()]
            if workers and step > self.killed_at.get(other, 0):
                self.killed_at[other] = step
                return self._kill(workers)
        return False

    def _kill_supervisor(self, job: int) -> bool:
        return self._kill(self.site.named("heimdall supervisor", f"job {job}"))

    def _kill_fork_server(self, job: int) -> bool:
        return self._kill(self.site.named("forkserver") + self.site.named("fork server"))

    def _kill_zygote(self, job: int) -> bool:
        return self._kill(self.site.named("zygote"))

    def _kill_worker(self, job: int) -> bool:
        return self._kill([psutil.Process(self.site.worker.pid)])

    def _kill_queue_head(self, job: int) -> bool:
        return self._kill(self.site.queue_heads())

    def _kill_queue_pusher(self, job: int) -> bool:
        return self._kill(self.site.named("qcluster", "pusher"))

    def _kill_idle_queue_process(self, job: int) -> bool:
        return self._kill(self.site.named("qcluster", "idle"))

    def _kill_web(self, job: int) -> bool:
        return self._kill([psutil.Process(self.site.web.pid)])

    def _stop_and_continue_trainer(self, job: int) -> bool:
        return self._stop_and_continue(self._trainers(job))

    def _stop_and_continue_supervisor(self, job: int) -> bool:
        return self._stop_and_continue(self.site.named("heimdall supervisor", f"job {job}"))

    def _terminate_worker(self, job: int) -> bool:
        self.site.worker.send_signal(signal.SIGTERM)
        self.site.worker.wait(timeout=60 * PATIENCE)
        return True

    def _pause_and_resume(self, job: int) -> bool:
        self.site.pause(job, self.random.choice(["epoch", "step"]))
        if self.random.random() < 0.5:
            deadline = time.monotonic() + 5
            while self._row(job)["status"] == "running" and time.monotonic() < deadline:
                time.sleep(0.02)
        with suppress(Answer):
            self.site.verb(job, "resume")
        return True

    def _kill(self, processes: list[psutil.Process]) -> bool:
        if not processes:
            return False
        self.random.choice(sorted(processes, key=lambda process: process.pid)).kill()
        return True

    def _stop_and_continue(self, processes: list[psutil.Process]) -> bool:
        if not processes:
            return False
        process = self.random.choice(processes)
        process.suspend()
        time.sleep(self.random.uniform(0.1, 5.0))  # up to two leases and more
        with suppress(psutil.NoSuchProcess):
            process.resume()
        return True

    def _trainers(self, job: int) -> list[psutil.Process]:
        return self.site.named("heimdall trainer", f"job {job}")

    def _mend(self) -> None:
        """What an init system would do: start what is dead."""
        if self.site.worker.poll() is not None:
            self.site.start_worker()
        if self.site.web.poll() is not None:
            self.site.start_web()

    # Jobs.

    def _keep_jobs_coming(self) -> None:
        while sum(not self._is_over(job) for job in self.jobs) < JOBS_AT_ONCE:
            number = len(self.jobs) % len(self.configs)
            self.jobs[self._submit(number)] = number
        for job in self.jobs:
            if self._row(job)["status"] == "paused":  # its resume met a web server that was dead
                with suppress(Answer, OSError):
                    self.site.verb(job, "resume")

    def _submit(self, number: int) -> int:
        return self.site.submit(**SHARED | self.configs[number])

    def _a_job_that_trains(self) -> int:
        def training() -> list[int]:
            self._mend()
            rows = self.site.rows(
                "select id from training_trainingjob where status='running' and phase='training'"
            )
            found = [row["id"] for row in rows if row["id"] in self.jobs]
            if not found:
                self._keep_jobs_coming()
            return sorted(found)

        return self.random.choice(self._wait(training, 120, "a job that trains"))

    def _is_over(self, job: int) -> bool:
        self._mend()
        row = self._row(job)
        if row["status"] == "paused":
            with suppress(Answer, OSError):
                self.site.verb(job, "resume")
        if row["status"] in {"failed", "cancelled"}:
            raise AssertionError(f"job {job} is {row['status']}: {row['error_message']}\n{self._story(job)}")
        return row["status"] == "completed"

    def _row(self, job: int) -> dict[str, Any]:
        return self.site.rows("select * from training_trainingjob where id=?", job)[0]

    def _wait(self, asked: Callable[[], Any], seconds: float, what: str) -> Any:
        try:
            return self.site.wait_until(asked, seconds=seconds)
        except TookTooLong as error:
            stories = "\n".join(
                self._story(job) for job in self.jobs if self._row(job)["status"] != "completed"
            )
            raise AssertionError(f"{what}: {error}\n{stories}") from None

    # What must hold at the end.

    def _verify(self, job: int, twin: int) -> None:
        events = self.site.rows(
            "select kind, epoch, seq from training_event where job_id=? order by seq", job
        )
        epochs = [event["epoch"] for event in events if event["kind"] == "epoch"]
        assert epochs == list(range(1, EPOCHS + 1)), f"job {job}: epochs {epochs}\n{self._story(job)}"
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1)), f"job {job}: a gap"
        assert "replay_differs" not in [event["kind"] for event in events], self._story(job)
        assert self._final(job) == self._final(twin), f"job {job} ended in another state\n{self._story(job)}"
        assert self._metrics(job) == self._metrics(twin), f"job {job} has other metrics\n{self._story(job)}"

    def _final(self, job: int) -> str:
        rows = self.site.rows("select digest, kinds from training_checkpoint where job_id=?", job)
        finals = {row["digest"] for row in rows if "final" in row["kinds"]}
        assert len(finals) == 1, f"job {job}: final states {finals} of {rows}\n{self._story(job)}"
        return finals.pop()

    def _metrics(self, job: int) -> list[Any]:
        return [(row["step"], told(row["values"]), row["epoch_values"]) for row in self.site.metrics(job)]

    def _story(self, job: int) -> str:
        events = self.site.rows("select seq, kind, message, attempt from training_event where job_id=?", job)
        lines = [
            f"  {event['seq']} a{event['attempt']} {event['kind']}: {event['message']}" for event in events
        ]
        return "\n".join([f"job {job}:", *lines])

    def report(self) -> str:
        attempts = self.site.rows("select job_id, steps_executed as steps from training_attempt")
        ours = [row for row in attempts if row["job_id"] in self.jobs]
        counted = sorted(self.done.items(), key=lambda row: -row[1])
        kinds = "\n".join(f"  {count:5d}  {kind}" for kind, count in counted)
        return (
            f"{sum(self.done.values())} disturbances of {len(self.jobs)} jobs:\n{kinds}\n"
            f"{len(ours)} attempts, {sum(row['steps'] for row in ours)} steps executed for "
            f"{len(self.jobs) * EPOCHS * STEPS} that count.\n"
            "0 jobs lost, 0 epochs recorded twice, every final digest and metric equal to the undisturbed ones."
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"chaos with {options.kills} kills, seed {options.seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="heimdall-chaos-") as folder:
        try:
            with running(Path(folder), **SETTINGS | {"HEIMDALL_SLOTS": "3"}) as site:
                chaos = Chaos(
                    site,
                    kills=options.kills,
                    seed=options.seed,
                    configs=[*CONFIGS, GANG],
                    say=lambda line: print(line, flush=True),
                )
                chaos.run()
                print(chaos.report())
        except (AssertionError, subprocess.TimeoutExpired) as error:
            print(f"FAILED: {error}")
            return 1
    print(f"{time.monotonic() - began:.0f} s")
    return 0


SETTINGS = {"HEIMDALL_SLOTS": "2", "HEIMDALL_CANARY_SECONDS": "4", "HEIMDALL_STALL_SECONDS": "60"}

if __name__ == "__main__":
    sys.exit(main())
