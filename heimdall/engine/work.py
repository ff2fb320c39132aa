"""What a trainer does: build everything, restore, train, stage checkpoints, and answer stop, go on and exit."""

import importlib
import json
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from heimdall import codec
from heimdall.engine import environment
from heimdall.engine.assemble import assemble
from heimdall.engine.carry import WEIGHTS, carry
from heimdall.engine.control import Wishes
from heimdall.engine.data import LoaderWorkerSetup
from heimdall.engine.generation import Generation
from heimdall.engine.loop import ClosedEpoch, Outcome
from heimdall.engine.refused import Refused
from heimdall.engine.restore import restore
from heimdall.engine.snapshot import Announcer, Stager, Ticket
from heimdall.failpoints import failpoint
from heimdall.recipes.base import GenerationRecipe, TrainingRecipe
from heimdall.trainer.channel import Channel
from heimdall.trainer.protocol import (
    CheckpointFailed,
    EpochDone,
    Failed,
    Finished,
    FromTrainer,
    PhaseChanged,
    Started,
    StepsDone,
    Stopped,
    TrainerSpec,
    num_bytes,
)

Send = Callable[[FromTrainer], None]

FLUSH_SECONDS = 0.1
RETRY_SECONDS = (0.2, 1.0, 5.0, 15.0)
MOST_ARTIFACT_BYTES = 64 * 1024
FAILED, CRASHED = 1, 71
OUT_OF_MEMORY = "out_of_memory"

# Where torch has no class of its own for it: of the CPU's memory, of pinned memory, of CUDA's libraries.
_NO_MEMORY = re.compile(r"DefaultCPUAllocator|out of memory|_STATUS_ALLOC_FAILED")
_NOT_REPEATABLE = re.compile(
    r"does not have a deterministic implementation|this operation is not deterministic"
)
_LOADER_WORKER_DIED = re.compile(r"DataLoader worker \(pid.*(exited unexpectedly|killed by signal)")


class Crashed(Exception):
    """Something gave way that is not the recipe's fault: the attempt counts as a crash, and another one is made."""


def run(channel: Channel) -> int:
    """Do what the spec says, and return the exit code. A failure is told; a crash is only seen in the code."""
    wishes = Wishes()
    channel.listen(wishes.receive)
    try:
        perform(channel.spec, send=channel.send, wishes=wishes)
    except Exception as error:
        # torch's handler raises for each loader worker that ends by a signal; one time is enough.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        code = _code(error)
        traceback.print_exc(file=sys.stderr)
        if code is None:
            return CRASHED
        channel.send(Failed(code, _sentence(error, code, channel.spec.config), traceback.format_exc()))
        return FAILED
    return 0


def perform(spec: TrainerSpec, *, send: Send, wishes: Wishes) -> None:
    recipe, recipe_digest = load_recipe(spec)
    if isinstance(recipe, GenerationRecipe):
        _generate(recipe, recipe_digest, spec, send=send, wishes=wishes)
        return
    work = TrainingWork(spec, send=send, wishes=wishes)
    work.start(recipe, recipe_digest)
    work.work()


def load_recipe(spec: TrainerSpec) -> tuple[TrainingRecipe | GenerationRecipe, str]:
    """The recipe with its config, and the digest of its source."""
    try:
        package = importlib.import_module(spec.package)
        config_class = importlib.import_module(f"{spec.package}.config").Config
        recipe_class = importlib.import_module(f"{spec.package}.recipe").Recipe
    except ModuleNotFoundError as error:
        raise Refused("unknown_recipe", f"The recipe {spec.package} is not here: {error}.") from error
    config = config_class.model_validate_json(json.dumps(spec.config))
    return recipe_class(config, Path(spec.scratch)), environment.digest_of_source(package)


class TrainingWork:
    """A training under a supervisor. It is the loop's watcher."""

    def __init__(
        self,
        spec: TrainerSpec,
        *,
        send: Send,
        wishes: Wishes,
    ) -> None:
        self._spec = spec
        self._send = send
        self._wishes = wishes
        self._announcer = Announcer(send)
        wishes.on_stored = self._announcer.stored
        self._stager = Stager(Path(spec.staging), finished=self._written)
        self._broken: BaseException | None = None
        self._phase = ""
        self._owed: list[str] = []
        self._closed: tuple[int, float | None] = (-1, None)
        self._skipping = False

    def start(self, recipe: TrainingRecipe, recipe_digest: str) -> None:
        """Build everything, see whether the data is the same, restore, and say what was found."""
        spec, config = self._spec, recipe.config
        self._config = config
        device = environment.choose_device(spec.device, spec.pinned)
        environment.set_determinism(config.deterministic)
        threads = environment.set_threads(spec.threads)
        self._training = assemble(recipe, device=device, worker_setup=LoaderWorkerSetup())
        self._environment = environment.describe(
            device,
            threads=threads,
            precision=config.precision,
            deterministic=config.deterministic,
            fingerprint=self._training.fingerprint,
            recipe_digest=recipe_digest,
            compiled=environment.is_compiled(self._training.loop.model),
        )
        environment.check_data(self._environment, spec.pinned)
        if spec.checkpoint is not None:
            self._restore(spec.checkpoint)
        self._send(self._started())

    def work(self) -> None:
        """Train until the end, or until the supervisor lets the process go."""
        self._flush_at = 0.0
        self._postpone_checkpoint()
        while not self._wishes.is_exiting:
            outcome = self._training.loop.train(epochs=self._config.epochs, watcher=self)
            self._flush()
            if self._wishes.is_exiting:
                return
            if outcome is not Outcome.STOPPED:
                self._finish(outcome)
                return
            if self._stage_surely("pause"):
                failpoint("stopping")
                self._send(Stopped(**self._where()))
                if not self._wishes.wait_for_answer():
                    return
            self._postpone_checkpoint()

    # What the loop asks and tells.

    def poll(self) -> str:
        return self._wishes.poll()

    def phase(self, name: str) -> None:
        if name != self._phase:
            self._phase = name
            self._send(PhaseChanged(name))

    def step_finished(self) -> None:
        now = time.monotonic()
        if now >= self._flush_at:
            self._flush()
        if now >= self._checkpoint_at and self._stager.has_room:
            self._checkpoint(["periodic"])

    def epoch_closed(self, epoch: ClosedEpoch, *, outcome: Outcome | None) -> None:
        self._flush()
        best = self._training.loop.best
        self._send(
            EpochDone(
                **self._where(),
                values=epoch.values,
                best_epoch=best.epoch,
                best_val_loss=best.loss if self._training.loop.data.has_validation else None,
                is_best=epoch.is_best,
                artifact=_shown(epoch),
            )
        )
        self._closed = (self._training.loop.progress.steps_completed, epoch.values["val_loss"])
        every = self._config.checkpoint_every_epochs
        self._owed = ["periodic"] if every and epoch.epoch % every == 0 else []
        if epoch.is_best and self._config.keep_best:
            self._owed.append("best")
        # If the loop ends here, the same file serves the pause or the end too.
        if outcome is None and self._owed:
            self._checkpoint(self._take_owed())

    # Checkpoints.

    def _checkpoint(self, kinds: list[str]) -> None:
        """Stage a checkpoint while the training goes on; leave it out if too many are not stored yet."""
        self._postpone_checkpoint()
        if not self._announcer.has_room and "best" not in kinds:
            if not self._skipping:
                self._report_failure(f"{self._announcer.waiting} checkpoints wait to be stored", kinds)
            self._skipping = True
            return
        self._skipping = False
        self._stager.write(self._snapshot(kinds))

    def _stage_surely(self, kind: str) -> bool:
        """Stage the checkpoint on which the end rests; try until it is durable, or not wanted any more."""
        ticket = self._snapshot([*self._take_owed(), kind])
        ticket.is_needed = True
        try:
            for attempt in range(1_000_000):
                self._stager.write(ticket)
                while not self._stager.wait(ticket, 0.5):
                    if self._wishes.is_exiting:
                        return False
                if ticket.error is None:
                    return True
                self._raise_if_broken()
                self._wishes.wait_for_change(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
                if self._wishes.is_exiting or (kind == "pause" and not self._wishes.poll()):
                    return False
            raise AssertionError("the disk has been full for months")
        finally:
            self._stager.release(ticket)

    def _snapshot(self, kinds: list[str]) -> Ticket:
        progress = self._training.loop.progress
        closed_step, val_loss = self._closed
        val_loss = val_loss if closed_step == progress.steps_completed else None
        where = self._where()
        about = self._spec.about | {
            "recipe": self._spec.package,
            "config": self._spec.config,
            "environment": self._environment,
            "kinds": kinds,
            "val_loss": val_loss,
            "created_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **where,
        }
        return self._stager.snapshot(
            self._training.parts, kinds=kinds, val_loss=val_loss, about=about, **where
        )

    def _written(self, ticket: Ticket) -> None:
        """Called on the writing thread."""
        if ticket.error is None:
            self._announcer.announce(ticket)
            failpoint("staged")
        elif isinstance(ticket.error, OSError | MemoryError):
            self._report_failure(str(ticket.error), ticket.kinds)
        else:
            self._broken = ticket.error
        if not ticket.is_needed:
            self._stager.release(ticket)

    def _report_failure(self, error: str, kinds: list[str]) -> None:
        self._send(CheckpointFailed(error, tuple(kinds)))

    def _take_owed(self) -> list[str]:
        owed, self._owed = self._owed, []
        return owed

    def _postpone_checkpoint(self) -> None:
        minutes = self._config.checkpoint_every_minutes
        self._checkpoint_at = time.monotonic() + minutes * 60 if minutes else float("inf")

    # Start and end.

    def _restore(self, path: str) -> None:
        expected = self._spec.expected
        try:
            loaded, about = codec.load(path, digest=expected.get("digest"))
        except OSError as error:
            # Unreadable is not bad.
            raise Crashed(f"the checkpoint cannot be read: {error}") from error
        except codec.BadCheckpoint as error:
            raise Refused("bad_checkpoint", f"The checkpoint is damaged: {error}.") from error
        if self._spec.carry:
            asked, before = self._spec.config, about.get("config") or {}
            carry(self._training, loaded, what=self._spec.carry, asked=asked, before=before)
        else:
            self._restore_own(loaded)
        for name, found in self._where().items():
            if expected.get(name, found) != found:
                raise Refused("bad_checkpoint", f"The checkpoint is of {name} {found}, not {expected[name]}.")
        if self._spec.carry != WEIGHTS:
            self._closed = (self._training.loop.progress.steps_completed, about.get("val_loss"))

    def _restore_own(self, loaded: dict[str, Any]) -> None:
        try:
            restore(self._training.parts, loaded)
        except Refused as error:
            remedy = "Bring the recipe back as it was and resume, or start a new job."
            raise Refused(error.code, f"{error} {remedy}") from error

    def _started(self) -> Started:
        plan = self._training.plan
        return Started(
            **self._where(),
            steps_per_epoch=plan.steps_per_epoch,
            total_steps=plan.total_steps,
            total_epochs=plan.epochs,
            parameters=self._training.parameters,
            learning_rate=self._training.learning_rate,
            environment=self._environment,
            approximate=environment.why_approximate(self._environment, self._spec.pinned),
        )

    def _finish(self, outcome: Outcome) -> None:
        if self._stage_surely("final"):
            failpoint("finishing")
            self._send(Finished(**self._where(), reason=outcome.value))
            self._wishes.wait_for_exit()

    def _flush(self) -> None:
        self._flush_at = time.monotonic() + FLUSH_SECONDS
        rows = self._training.loop.totals.take_rows()
        if rows:
            self._send(StepsDone(rows))
        self._raise_if_broken()

    def _raise_if_broken(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _where(self) -> dict[str, int]:
        progress = self._training.loop.progress
        return {"step": progress.steps_completed, "epoch": progress.epochs_completed}


def _shown(epoch: ClosedEpoch) -> Mapping[str, Any] | None:
    """The recipe's artifact for the message. One that is too large is left out; the log says so."""
    if epoch.artifact is None:
        return None
    size = num_bytes(epoch.artifact)
    if size > MOST_ARTIFACT_BYTES:
        print(
            f"The artifact of epoch {epoch.epoch} is left out: it has {size} bytes, "
            f"{MOST_ARTIFACT_BYTES} are allowed.",
            file=sys.stderr,
        )
        return None
    return epoch.artifact


def _generate(
    recipe: GenerationRecipe, recipe_digest: str, spec: TrainerSpec, *, send: Send, wishes: Wishes
) -> None:
    generation = Generation(recipe, Path(spec.staging), finished=spec.finished)
    wishes.on_stored = generation.stored
    threads = environment.set_threads(spec.threads)
    found = environment.describe(
        torch.device("cpu"),
        threads=threads,
        precision="fp32",
        deterministic=True,
        fingerprint="",
        recipe_digest=recipe_digest,
    )
    send(
        Started(
            step=len(generation.finished),
            epoch=0,
            steps_per_epoch=recipe.shards,
            total_steps=recipe.shards,
            environment=found,
            approximate=environment.why_approximate(found, spec.pinned),
        )
    )
    while not wishes.is_exiting:
        is_finished = generation.make_missing(send=send, wishes=wishes)
        where = {"step": len(generation.finished), "epoch": 0}
        if is_finished:
            send(Finished(**where, reason="shards"))
            wishes.wait_for_exit()
        elif not wishes.is_exiting:
            send(Stopped(**where))
            wishes.wait_for_answer()


def _code(error: Exception) -> str | None:
    """What to call the failure; None for a crash."""
    if isinstance(error, Refused):
        return error.code
    if isinstance(error, Crashed) or _LOADER_WORKER_DIED.search(str(error)):
        return None
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)):
        return OUT_OF_MEMORY
    return "recipe_error"


def _sentence(error: Exception, code: str, config: dict[str, Any]) -> str:
    if isinstance(error, Refused):
        return str(error)
    said = f"{type(error).__name__}: {error}"
    if code == OUT_OF_MEMORY and "batch_size" in config:
        said += (
            f"\nIt did not fit with batch_size={config['batch_size']}. A smaller one needs less memory; with "
            "grad_accumulation as many times larger, a step is over as many samples as before."
        )
    if _NOT_REPEATABLE.search(said) and config.get("deterministic"):
        said += (
            "\nThe setting deterministic=false allows it; resumes are approximate then, and the page says so."
        )
    return said
