# Made of asynchronous/jobs.py by `make client`: change it there.
"""A job on a server, and what may be asked of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from typing_extensions import Self

from heimdall.client import answers
from heimdall.client.feed import FROM_THE_START, JobStream
from heimdall.client.notebook import NotebookCard
from heimdall.client.shapes import CheckpointFields, JobFields, MetricRows, Update
from heimdall.client.synchronous.transport import ServerConnection
from heimdall.errors import NotFound

EVERYTHING = frozenset({"job", "event", "step", "epoch", "log", "rollback", "restored"})


class RemoteJob(NotebookCard):
    """A job as it was when it was last read; every verb, `refresh` and `wait` read it again.

    `fields` has everything that the API shows of it.
    """

    def __init__(self, server: ServerConnection, shown: Mapping[str, Any]) -> None:
        self._server = server
        self.fields = JobFields.of(shown)
        self.message = ""
        """What the server said to the newest verb."""
        self._note(shown)

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.name!r}: {self.headline}>"

    @property
    def id(self) -> int:
        return self.fields.id

    @property
    def name(self) -> str:
        return self.fields.job_name

    @property
    def status(self) -> str:
        """queued, running, paused, completed, failed or cancelled."""
        return self.fields.status

    @property
    def headline(self) -> str:
        """What is going on, in a few words: "pausing at the end of epoch 7"."""
        return self.fields.headline

    @property
    def verbs(self) -> list[str]:
        """What you may ask of the job now."""
        return self.fields.verbs

    @property
    def url(self) -> str:
        """The job's page."""
        return self._server.url(f"/jobs/{self.id}/")

    @property
    def checkpoints(self) -> Checkpoints:
        """By kind, as in `checkpoints["best"]`, by number, or all of them."""
        return Checkpoints(self._server, self.id)

    def refresh(self) -> Self:
        self._note(self._server.get(self._path()))
        return self

    # Verbs. Each is refused with TransitionRefused where the job's state does not allow it.

    def pause(self, *, at: str = "epoch") -> Self:
        """At the end of the epoch, or with at="step" after the step under way; at once while it is queued."""
        return self._verb("pause", at=at)

    def resume(self, *, checkpoint: int | None = None) -> Self:
        """From the newest good checkpoint, or from an older one: what was trained since is then given up."""
        return self._verb("resume", checkpoint=checkpoint)

    def restart(self) -> Self:
        """Begin a failed or cancelled job again at step 0."""
        return self._verb("restart")

    def cancel(self) -> Self:
        return self._verb("cancel")

    def discard(self) -> Self:
        """Give a paused job up."""
        return self._verb("discard")

    def delete(self) -> None:
        """Remove a finished job with its history and its files."""
        self._server.ask("DELETE", self._path())

    def change(
        self,
        *,
        name: str | None = None,
        description: str | None = None,
        priority: int | None = None,
        pool: str | None = None,
        tags: Iterable[str] | None = None,
    ) -> Self:
        """What people said about it; what it computes never changes."""
        about = answers.given(job_name=name, description=description, priority=priority, pool=pool)
        body = about | ({"tags": list(tags)} if tags is not None else {})
        self._note(self._server.ask("PATCH", self._path(), body=body))
        return self

    def fork(
        self,
        *,
        checkpoint: int | None = None,
        carry: str = "training",
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> RemoteJob:
        """A new job from a checkpoint, with other settings. carry="weights" takes the weights alone, from step 0."""
        body = answers.given(checkpoint=checkpoint, carry=carry, job_name=name)
        return self._new("fork", body | {"config": {**(config or {}), **settings}})

    def clone(
        self, *, name: str | None = None, config: Mapping[str, Any] | None = None, **settings: Any
    ) -> RemoteJob:
        """A new job with these settings, and some others, from nothing."""
        return self._new("clone", answers.given(job_name=name) | {"config": {**(config or {}), **settings}})

    def extend(self, *, epochs: int | None = None, samples: int | None = None) -> RemoteJob:
        """A new job with more epochs of this completed training, or more samples of its dataset."""
        return self._new("extend", answers.given(epochs=epochs, samples=samples))

    def wait(self, *, timeout: float | None = None, until: Iterable[str] = ()) -> Self:
        """Until it is completed, failed, cancelled or paused, or in one of `until`. After `timeout`: TimeoutError."""
        wanted, end = set(until), None if timeout is None else time.monotonic() + timeout
        pause = 0.1
        while not (self.status in wanted if wanted else self.fields.is_at_rest):
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"Job {self.id} is {self.headline} after {timeout:g} s; it goes on.")
            time.sleep(pause)
            pause = min(pause * 1.3, 2.0)
            self.refresh()
        return self

    def follow(self, *, from_start: bool = False, kinds: Iterable[str] = EVERYTHING) -> Iterator[Update]:
        """What happens to it from now on, or from its start, until it is at rest, whatever connections break."""
        stream = JobStream(self.id, FROM_THE_START if from_start else "")
        for update in self._server.follow(stream, frozenset(kinds) | {"job"}):
            if update.kind == "job":
                self._note(update.data)
            if update.kind in kinds:
                yield update

    # What it did.

    def metrics(self, *, per: str = "step", after: int = 0) -> MetricRows:
        """One row for each finished step, or with per="epoch" for each finished epoch."""
        return MetricRows(self._list("metrics", per=per, after=after))

    def curve(self, *metrics: str, points: int = 400) -> dict[str, Any]:
        """The same as a picture needs it: about so many points, each with mean, lowest and highest value."""
        query = {"points": points} | ({"metric": ",".join(metrics)} if metrics else {})
        self.last_curve = self._server.get(self._path("/curve"), query)
        return self.last_curve

    def events(self, *, after: int = 0) -> list[dict[str, Any]]:
        return self._list("events", after=after)

    def log(self, *, after: int = 0) -> str:
        """Everything that the training printed; `after` is the number of a piece."""
        return "".join([piece["text"] for piece in self._list("logs", after=after)])

    def log_tail(self, lines: int = 20) -> str:
        """The last lines that the training printed."""
        return "\n".join((self.log()).splitlines()[-lines:])

    def artifact(self) -> dict[str, Any] | None:
        """What its recipe draws of the newest validated epoch."""
        return self._server.get(self._path("/artifact"))

    def locate(self, reports: str | Path | list[dict[str, Any]]) -> dict[str, Any]:
        """Where transmitters are, by a completed localization: of reports as objects, as CSV, or a file of CSV."""
        where = self._path("/locate")
        if isinstance(reports, list):
            return self._server.ask("POST", where, body={"reports": reports})
        content = reports.read_bytes() if isinstance(reports, Path) else reports.encode()
        return self._server.upload(where, content, media_type="text/csv")

    # What is known of it.

    def certificate(self) -> bytes:
        """The signed document, to be kept byte for byte: `heimdall verify` looks at it without any server."""
        from heimdall.certificate.chain import canonical

        return (canonical(self._server.get(self._path("/certificate"))) + "\n").encode()

    def verify(self, stretches: int = 0) -> list[dict[str, Any]]:
        """Have so many stretches trained again on slots that are idle, or all that were not yet: the replays."""
        answer = self._server.post(self._path("/verify"), {"stretches": stretches})
        return answer["replays"]

    def replays(self) -> list[dict[str, Any]]:
        """Newest first, with what came out."""
        return list(self._server.pages(self._path("/replays"), {"page_size": 200}))

    # Helpers.

    def reporting_token(self) -> str:
        """For the machine that an external job is trained on: a token that reports for this job and nothing else."""
        return (self._server.ask("POST", self._path("/token")))["token"]

    def _path(self, more: str = "") -> str:
        return f"/v1/training/jobs/{self.fields.id}{more}"

    def _note(self, shown: Mapping[str, Any]) -> None:
        self.fields = JobFields.of(shown)
        self.message = shown.get("message", self.message)

    def _verb(self, verb: str, **options: Any) -> Self:
        self._note(self._server.post(self._path(f"/{verb}"), answers.given(**options)))
        return self

    def _new(self, verb: str, body: Mapping[str, Any]) -> RemoteJob:
        return RemoteJob(self._server, self._server.post(self._path(f"/{verb}"), body))

    def _list(self, name: str, **query: Any) -> list[dict[str, Any]]:
        return list(self._server.pages(self._path(f"/{name}"), query | {"limit": 1000}))


class Checkpoints:
    """The checkpoints of a job, newest first. Each look asks the server."""

    def __init__(self, server: ServerConnection, job: int) -> None:
        self._server, self._job = server, job

    def __iter__(self) -> Iterator[RemoteCheckpoint]:
        path = f"/v1/training/jobs/{self._job}/checkpoints"
        for row in self._server.pages(path, {"page_size": 200}):
            yield RemoteCheckpoint(self._server, row)

    def __getitem__(self, which: str | int) -> RemoteCheckpoint:
        """The newest of a kind ("best", "final", "pause", "periodic"), or "newest", or one by its number."""
        kinds: set[str] = set()
        for found in self:
            kinds |= set(found.fields.kinds)
            if found.fields.quarantined_at is None and which in {found.id, "newest", *found.fields.kinds}:
                return found
        there = ", ".join(sorted(kinds)) or "none yet"
        why = (
            " The best is the one with the lowest val_loss, which the job has to log."
            if which == "best"
            else ""
        )
        raise NotFound(f"Job {self._job} has no good checkpoint {which!r}; it has: {there}.{why}")


class RemoteCheckpoint:
    """A checkpoint on a server. `fields` has everything that the API shows of it."""

    def __init__(self, server: ServerConnection, shown: Mapping[str, Any]) -> None:
        self._server = server
        self.fields = CheckpointFields.of(shown)

    def __repr__(self) -> str:
        kinds = ", ".join(self.fields.kinds)
        return f"<Checkpoint {self.id} of job {self.fields.job} at step {self.fields.step}: {kinds}>"

    @property
    def id(self) -> int:
        return self.fields.id

    def download(self, path: str | Path | None = None) -> Path:
        """Write it to a file, or into a folder, and check every bit of it. Goes on with a download that broke off."""
        from heimdall.client.synchronous.downloads import download

        return download(self._server, self.fields, Path(path) if path is not None else None)

    def pin(self, pinned: bool = True) -> Self:
        """A pinned checkpoint is kept for as long as its job."""
        path = f"/v1/training/jobs/{self.fields.job}/checkpoints/{self.id}"
        self.fields = CheckpointFields.of(self._server.ask("PATCH", path, body={"pinned": pinned}))
        return self
