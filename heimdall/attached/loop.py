"""`heimdall.attach`: a script's own loop, stopped and resumed between two optimizer steps.

    job = heimdall.attach(model=model, optimizer=optimizer)
    for epoch in job.epochs(10):
        for batch in job.batches(loader):
            loss = step(batch)
            job.log(loss=loss)

`job.batches` is the only place where anything happens. When the next batch is asked for, the body of the one before
it is over: if an optimizer stepped in it, this is a boundary, and there the job may be saved or left. State is
restored at the first `epochs()` or `batches()`, when all is built; the generators last.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, Protocol

import torch

from heimdall.attached.parts import Call, Config, ScriptPosition, Sources, Values
from heimdall.attached.sources import source_of
from heimdall.attached.steps import Logged, StepCounter
from heimdall.engine.module_state import ModuleState
from heimdall.engine.parts import BUFFERS, GENERATORS, MODULES, PassingBuffers, as_part
from heimdall.engine.progress import Best
from heimdall.engine.replicas import warm_up
from heimdall.engine.rng import Generators, mix, seed_again

MOST_EPOCHS = 1_000_000  # as many as an adapter says where nobody knows
OURS = frozenset({"position", "sources", "logged", "best", "values", BUFFERS, MODULES, GENERATORS})


class Host(Protocol):
    """What is around a script: nobody, or the session with a supervisor."""

    is_supervised: bool

    @property
    def config(self) -> Mapping[str, Any]:
        """What was asked for this job."""

    @property
    def resumes_in_epoch(self) -> int:
        """The epoch (from 0) in which it will go on, known before anything is restored."""

    @property
    def rank_of(self) -> tuple[int, int]:
        """Which of how many processes that train together this one is."""

    def begin(self, job: "Job") -> None:
        """All is built and nothing was trained: restore the parts, if there is something to restore."""

    def reached(self, job: "Job") -> None:
        """A boundary: rows may be sent, a checkpoint may be made, and the script may be left."""

    def require_not_left(self) -> None:
        """Raises where the script was left already, and caught what it was left by."""

    def epoch_closed(self, job: "Job", values: dict[str, float | None], *, is_boundary: bool) -> None:
        """An epoch's body is over; at a boundary the script may be left here."""

    def artifact(self, artifact: Mapping[str, Any]) -> None: ...

    def worker_setup(self) -> Any: ...


class Job:
    """The job that a script is, whether somebody supervises it or not."""

    def __init__(self, host: Host, *, seed: int, defaults: Mapping[str, Any]) -> None:
        self._host = host
        self._seed = mix(seed, "script")
        self.config = Config({**defaults, **host.config})
        self.position = ScriptPosition()
        self.logged = Logged()
        self.best = Best()
        self.is_best = False
        self.total_epochs = 0
        self._sources = Sources()
        self._values = Values()
        self._parts: dict[str, Any] = {}
        self._counter = StepCounter()
        self._has_begun = False
        self._closes_epochs_itself = True
        self._num_calls = 0  # of `batches` in the epoch's body, this time
        self._open: list[Call] = []
        self._length: int | None = None  # of the loader that leads
        self._has_open_body = False
        self._steps_per_epoch = 0  # as the epoch before had them
        self._drawn: dict[str, Any] | None = None

    # What a script says.

    @property
    def is_supervised(self) -> bool:
        """Whether Heimdall started this script. Alone, nothing is saved and nothing is stopped."""
        return self._host.is_supervised

    @property
    def step(self) -> int:
        """How many optimizer steps of the whole job are finished."""
        return self.position.steps

    @property
    def batch(self) -> int:
        """The number of the batch under way in its epoch, from 0. (After a resume, `enumerate` begins anew.)"""
        if not self._open:
            raise RuntimeError("job.batch is known inside of `for ... in job.batches(...)` alone")
        return self._open[0].batches - 1

    @property
    def is_last_batch(self) -> bool:
        """Whether the batch under way is the last of its loader, for gradients that are gathered over several."""
        if self._length is None:
            raise RuntimeError("job.is_last_batch asks for a loader with a length")
        return self.batch + 1 == self._length

    def keep(self, **parts: Any) -> None:
        """Name further things with `state_dict` and `load_state_dict` that must survive a pause."""
        if self._has_begun:
            raise RuntimeError(
                f"job.keep({', '.join(parts)}) comes too late: name all parts before the first epochs() or batches()"
            )
        for name, part in parts.items():
            if name in OURS or name in self._parts:
                raise ValueError(
                    f"job.keep({name}=...): there is a part of this name already; choose another"
                )
            if part is None:
                continue
            self._parts[name] = as_part(part, f"the part {name!r}")
            self._counter.watch(part)

    def values(self, **values: Any) -> Values:
        """Locals that must survive a pause, as attributes of what this returns; given once, before the loop."""
        if self._has_begun:
            raise RuntimeError(
                "job.values() comes too late: give them before the first epochs() or batches()"
            )
        for name, value in values.items():
            setattr(self._values, name, value)
        return self._values

    def epochs(self, count: int) -> Iterator[int]:
        """The epochs that are left of so many, from 0. A resume goes on in the epoch in which it was stopped."""
        self.begin(total_epochs=count)
        while self.position.epoch < count:
            yield self.position.epoch
            self.close_epoch()

    def batches(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The batches of this epoch that are left."""
        return self.read(loader)

    def read(self, loader: Iterable[Any], *, begins_at_a_boundary: bool = False) -> Iterator[Any]:
        """What `batches` does. begins_at_a_boundary: it may be left before its first batch, too."""
        self.begin()
        call, number = self._next_call()
        source = self._source_of(loader, number)
        if call.is_over:
            return
        if not self._open:
            self._length = len(loader) if isinstance(loader, Sized) else None
        self._open.append(call)
        self._draw_as_then()
        if begins_at_a_boundary:
            self._host.reached(self)
        try:
            for batch in source.batches(self.position.epoch, number, call.batches):
                self._hand_out(call)
                yield batch
                self._body_over(call)
        finally:  # also where the script leaves its loop early
            if self._open[0] is call and self._has_open_body:
                self._count_step()
            call.is_over = True
            self._open.remove(call)
        if self._closes_epochs_itself:
            self.close_epoch()

    def validation(self, loader: Iterable[Any]) -> Iterator[Any]:
        """All batches of a loader, in its order. For their time the generators are others than those that are
        saved: a validation may be repeated, and changes nothing. A stop waits until it is over."""
        self.begin()
        with self._generators.set_aside(mix(self._seed, "validation")):
            yield from loader

    def log(self, **values: Any) -> None:
        """Values of the step under way; after the epoch's batches, of the epoch. Numbers or tensors of one value."""
        (self.logged.add if self._open else self.logged.add_to_epoch)(values)

    def log_to_epoch(self, **values: Any) -> None:
        """Values of the epoch under way, wherever they are logged."""
        self.logged.add_to_epoch(values)

    def artifact(self, artifact: Mapping[str, Any]) -> None:
        """What people may look at beside the values: plain JSON with a `kind`. The newest one is kept."""
        self._host.artifact(artifact)

    # What the host reads.

    def parts(self) -> dict[str, Any]:
        """All that must survive, in the order in which it is loaded: the generators last."""
        ours = {
            MODULES: self._modules,
            "position": self.position,
            "sources": self._sources,
            "logged": self.logged,
            "best": self.best,
            "values": self._values,
        }
        return {**self._parts, **self._buffers(), **ours, GENERATORS: self._generators}

    def why_approximate(self) -> list[str]:
        return self._sources.why_approximate()

    def expected_steps(self) -> int:
        """How many steps there will be in all, if all epochs are alike; 0 where that cannot be judged yet."""
        before, begun = self.position.steps_before_epoch, self.position.steps
        in_epoch = self._steps_per_epoch
        if (
            not in_epoch
            and self._length
            and self._open
            and not any(call.is_over for call in self.position.calls)
        ):
            in_epoch = math.ceil((begun - before) * self._length / max(self._open[0].batches, 1))
        left = self.total_epochs - self.position.epoch
        is_known = in_epoch > 0 and 0 < self.total_epochs < MOST_EPOCHS
        return max(begun, before + in_epoch * left) if is_known else 0

    @property
    def learning_rate(self) -> float | None:
        for part in self._parts.values():
            if isinstance(part, torch.optim.Optimizer):
                return float(part.param_groups[0]["lr"])
        return None

    @property
    def resumes_in_epoch(self) -> int:
        """The epoch (from 0) in which a resume goes on, known before all is built."""
        return self._host.resumes_in_epoch

    def watch(self, optimizer: Any) -> None:
        """Count the steps of an optimizer that is saved with something else."""
        self._counter.watch(optimizer)

    # What drives it: `epochs`, or an adapter for a framework's own loop.

    @property
    def has_begun(self) -> bool:
        """Whether its loop was reached: from there on it can be saved."""
        return self._has_begun

    def models(self) -> list[torch.nn.Module]:
        return [part for part in self._parts.values() if isinstance(part, torch.nn.Module)]

    def begin(self, *, total_epochs: int = 0) -> None:
        """All is built: restore what was saved. Nothing happens but for the first time.

        total_epochs: that somebody counts, and closes; without, each pass over a loader is an epoch.
        """
        if total_epochs:
            self.total_epochs, self._closes_epochs_itself = total_epochs, False
        if self._has_begun:
            self._host.require_not_left()
            return
        self._has_begun = True
        models = {name: part for name, part in self._parts.items() if isinstance(part, torch.nn.Module)}
        self._passing, self._modules = PassingBuffers(models), ModuleState(models)
        self._generators = Generators(cuda_devices=_cuda_devices())
        rank, ranks = self._host.rank_of
        if ranks > 1:
            warm_up()
        if rank:
            seed_again(mix(self._seed, "rank", rank))  # all is built alike; from here on each draws its own
        self._host.begin(self)
        if self.position.calls:
            self._drawn = self._generators.state_dict()

    def close_epoch(self, *, is_boundary: bool = True) -> None:
        """The epoch's body is over, its validation too. Unless it is said otherwise, this is a boundary."""
        if self._has_open_body:  # the last one of a loop that was left early
            self._count_step()
        values = self.logged.close_epoch()
        self._steps_per_epoch = self.position.steps - self.position.steps_before_epoch
        self.position.next_epoch()
        self._num_calls = 0
        losses = (values.get(name) for name in ("val_loss", "train_loss"))
        loss = next((loss for loss in losses if loss is not None), math.nan)
        self.is_best = self.best.consider(self.position.epoch, loss)
        self._host.epoch_closed(self, values, is_boundary=is_boundary)

    def finish(self) -> None:
        """The script is over. An epoch that it left early is closed."""
        if self._has_begun and self.position.calls:
            self.close_epoch(is_boundary=False)

    def _draw_as_then(self) -> None:
        """In an epoch's middle, what was drawn between the script's start and here was drawn before already."""
        if self._drawn is not None:
            self._generators.load_state_dict(self._drawn)
            self._drawn = None

    def _buffers(self) -> dict[str, Any]:
        return {BUFFERS: self._passing} if self._passing else {}

    def _source_of(self, loader: Any, call: int) -> Any:
        setup = self._host.worker_setup()
        rank_of = self._host.rank_of
        return self._sources.of(
            loader, call, lambda: source_of(loader, seed=self._seed, worker_setup=setup, rank_of=rank_of)
        )

    def _next_call(self) -> tuple[Call, int]:
        number, self._num_calls = self._num_calls, self._num_calls + 1
        if number == len(self.position.calls):
            self.position.calls.append(Call())
        return self.position.calls[number], number

    def _hand_out(self, call: Call) -> None:
        """Count the batch now: at the next boundary the bodies of all calls that are open are over. Calls that its
        body makes begin anew with each batch, but for those that a resume has yet to open again."""
        call.batches += 1
        self._has_open_body = True
        calls = self.position.calls
        if calls[-1] is call:  # nearly always
            self._num_calls = len(calls)
            return
        while calls[-1].is_over:
            calls.pop()
        self._num_calls = 1 + max(calls.index(each) for each in self._open)

    def _body_over(self, call: Call) -> None:
        # Where several calls are open at once, the first of them leads.
        if self._open[0] is call and self._count_step():
            self._host.reached(self)

    def _count_step(self) -> bool:
        """Whether the body that is over made a step; else gradients are still being gathered."""
        self._has_open_body = False
        if not self._counter.take():
            return False
        self.position.steps += 1
        self.logged.close_step(self.position.steps, self.position.epoch + 1)
        return True


class Alone:
    """A script that nobody supervises: it trains as it stands."""

    is_supervised = False
    config: Mapping[str, Any] = {}
    resumes_in_epoch = 0
    rank_of = (0, 1)

    def begin(self, job: Job) -> None:
        pass

    def reached(self, job: Job) -> None:
        job.logged.take_rows()

    def require_not_left(self) -> None:
        pass

    def epoch_closed(self, job: Job, values: dict[str, float | None], *, is_boundary: bool) -> None:
        pass

    def artifact(self, artifact: Mapping[str, Any]) -> None:
        pass

    def worker_setup(self) -> Any:
        return None


def _cuda_devices() -> int:
    return torch.cuda.device_count() if torch.cuda.is_initialized() else 0
