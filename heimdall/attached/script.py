"""What drives a trainer by a script: the user's file, run as `__main__`, with a session for `heimdall.attach`.

The script need not know that it is supervised. It is left where it asks for the next batch, by an exception that no
`except Exception` catches; what it raises, what it exits with, and where it ends by itself is told as it was.
"""

import atexit
import contextlib
import gc
import io
import os
import runpy
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from heimdall.attached import hooks, versions
from heimdall.attached.attach import attached_job, supervise
from heimdall.attached.loop import Job
from heimdall.attached.program import Program
from heimdall.engine import environment, rank_parts
from heimdall.engine.control import EPOCH, STEP, StopRequests
from heimdall.engine.data import LoaderWorkerSetup
from heimdall.engine.errors import Refused, code_of, sentence_of
from heimdall.engine.parts import GENERATORS
from heimdall.engine.rank_parts import OTHER_COUNT
from heimdall.engine.rank_session import RankSession
from heimdall.engine.ranks import LEAD, Place, Ranks
from heimdall.engine.recipe_job import FAILED, MOST_ARTIFACT_BYTES
from heimdall.engine.rng import seed_all
from heimdall.engine.session import CheckpointSettings, Send, Session
from heimdall.trainer.channel import Channel
from heimdall.trainer.exit_codes import CRASHED
from heimdall.trainer.protocol import EpochDone, Failed, Started, TrainerSpec, num_bytes

CHECKPOINT_EVERY_MINUTES = 10.0
SCRIPT_ERROR = "script_error"
LAST_LINES, MOST_LINE_CHARACTERS, MOST_PIECES = 15, 500, 200
MOST_TIMES_CAUGHT = 100  # in a script that catches everything and begins anew
NEVER_ATTACHED = "the script never came to a loop of heimdall.attach(): nothing that it trained was saved"


class RememberedErrors(io.TextIOWrapper):
    """stderr as it is, whose last lines are kept."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        # A file of its own: what is around a forked trainer's was made when something else stood behind it.
        file = open(stream.fileno(), "wb", closefd=False)  # noqa: SIM115 (it is this one's own)
        super().__init__(file, stream.encoding, stream.errors, line_buffering=True)
        self._said: deque[str] = deque(maxlen=MOST_PIECES)

    def write(self, text: str) -> int:
        self._said.append(text[-MOST_LINE_CHARACTERS:])
        return super().write(text)

    def last_lines(self) -> str:
        lines = [line.rstrip()[:MOST_LINE_CHARACTERS] for line in "".join(self._said).splitlines()]
        return "\n".join([line for line in lines if line][-LAST_LINES:])


_errors: RememberedErrors | None = None  # of the script that runs


class Leaving(BaseException):
    """The script is left: it was saved, and its process is to end."""


class Supervised:
    """The session as an attached job sees it."""

    is_supervised = True

    def __init__(
        self, spec: TrainerSpec, *, send: Send, requests: StopRequests, place: Place | None = None
    ) -> None:
        self.ranks = Ranks(spec, place, lead=LEAD["cuda"]) if place is not None else None
        self.session: Session = (
            Session(spec, send=send, requests=requests)
            if self.ranks is None
            else RankSession(
                spec, send=send, requests=requests, ranks=self.ranks, may_differ=may_differ_in_a_script
            )
        )
        self.has_left = False
        self._spec = spec
        self._artifact: Mapping[str, Any] | None = None
        self._owed: list[str] = []  # what a checkpoint is to be made for at the next boundary
        self._has_closed_epoch = False
        self._is_asked = False  # whether the next boundary has to look at the two
        self._times_caught = 0
        self._approximate: list[str] = []

    @property
    def config(self) -> Mapping[str, Any]:
        return self._spec.config

    @property
    def resumes_in_epoch(self) -> int:
        return int(self._spec.expected.get("epoch", 0)) if self._spec.checkpoint else 0

    @property
    def rank_of(self) -> tuple[int, int]:
        """Which of how many ranks this process is."""
        return (0, 1) if self.ranks is None else (self.ranks.number, self.ranks.count)

    def worker_setup(self) -> Any:
        return LoaderWorkerSetup()

    def artifact(self, artifact: Mapping[str, Any]) -> None:
        size = num_bytes(artifact)
        if size > MOST_ARTIFACT_BYTES:
            raise ValueError(f"job.artifact() was given {size} bytes; {MOST_ARTIFACT_BYTES} are allowed")
        self._artifact = artifact

    def begin(self, job: Job) -> None:
        trained = TrainedScript(job)
        self.session.restore(trained, own=lambda loaded: self._of_this_rank(job, loaded))
        minutes = float(self.config.get("checkpoint_every_minutes", CHECKPOINT_EVERY_MINUTES))
        now = versions.versions_of_imported()
        first = self.session.loaded_about.get("versions", now)
        self._approximate += versions.why_approximate(first, now)
        self.session.start(
            trained,
            self._started(job, trained),
            settings=CheckpointSettings(every_minutes=minutes, try_resume=False),
            more_about={"versions": first},
        )

    def reached(self, job: Job) -> None:
        if not self._is_asked and self.session.has_nothing_due():
            return  # nearly always
        self.require_not_left()
        self.session.total_steps = job.expected_steps() or self.session.total_steps
        self.session.step_finished()
        if self._owed:
            owed, self._owed = self._owed, []
            self.session.checkpoint(owed)
        asked = self.session.requested_of_all() if self._has_closed_epoch else self.session.requested
        if asked == STEP or (asked == EPOCH and self._has_closed_epoch):
            self._stop()
        self._is_asked = self._has_closed_epoch = False

    def epoch_closed(self, job: Job, values: dict[str, float | None], *, is_boundary: bool) -> None:
        self.require_not_left()
        asked = self.session.requested_of_all() if is_boundary else ""
        kinds = self._kinds(job, values)
        self.session.epoch_finished(
            self._epoch_done(job, values), kinds if is_boundary else [], goes_on=is_boundary and not asked
        )
        if not is_boundary:
            self._owed, self._has_closed_epoch, self._is_asked = kinds, True, True
        elif asked:
            self._stop()

    def finish(self, job: Job | None) -> None:
        """The script has ended by itself, and well."""
        if self.has_left:
            return
        if job is None or not job.has_begun:
            self._approximate.append(NEVER_ATTACHED)
            job = job or Job(self, seed=0, defaults={})
            job.begin()  # there is nothing to save but that it ended
        job.finish()
        self.session.finish("script")

    def _of_this_rank(self, job: Job, loaded: dict[str, Any]) -> dict[str, Any]:
        rank, count = self.rank_of
        made_on = rank_parts.num_ranks(loaded)
        if made_on != count and self.config.get("other_device_count", "refuse") == "refuse":
            raise Refused("does_not_fit", OTHER_COUNT.format(made_on=made_on, count=count))
        return rank_parts.of_rank(loaded, rank, fresh=job.parts()[GENERATORS].state_dict)

    def _stop(self) -> None:
        if not self.session.stop():
            self.has_left = True
            raise Leaving

    def require_not_left(self) -> None:
        """A script that caught the exception comes here once more, and is not trained on."""
        if not self.has_left and not self.session.is_exiting:
            return
        self.has_left = True
        self._times_caught += 1
        if self._times_caught > MOST_TIMES_CAUGHT:
            os._exit(0)  # all that was to be saved is; it would never end
        raise Leaving

    def _kinds(self, job: Job, values: Mapping[str, Any]) -> list[str]:
        every = int(self.config.get("checkpoint_every_epochs", 1))
        kinds = ["periodic"] if every and job.position.epoch % every == 0 else []
        return [*kinds, "best"] if job.is_best and values.get("val_loss") is not None else kinds

    def _epoch_done(self, job: Job, values: dict[str, float | None]) -> EpochDone:
        artifact, self._artifact = self._artifact, None
        return EpochDone(
            step=job.position.steps,
            epoch=job.position.epoch,
            values=values,
            best_epoch=job.best.epoch,
            best_val_loss=job.best.loss if "val_loss" in values else None,
            is_best=job.is_best,
            artifact=artifact,
        )

    def _started(self, job: Job, trained: "TrainedScript") -> Started:
        found = environment.describe(
            _device(),
            threads=torch.get_num_threads(),
            precision="as the script says",
            deterministic=torch.are_deterministic_algorithms_enabled(),
            fingerprint="",
            recipe_digest=str(self._spec.program.get("code", "")),
            compiled=any(environment.is_compiled(model) for model in job.models()),
        )
        found |= {} if self.ranks is None else self.ranks.described(_device())
        return Started(
            **trained.place,
            total_steps=0,
            total_epochs=job.total_epochs,
            parameters=sum(weight.numel() for model in job.models() for weight in model.parameters()),
            environment=found,
            approximate=[
                *environment.why_approximate(found, self._spec.pinned),
                *job.why_approximate(),
                *self._approximate,
            ],
            learning_rate=job.learning_rate,
            ranks=[] if self.ranks is None else self.ranks.members(_device()),
        )


def _device() -> torch.device:
    """What the script computes on as far as can be known."""
    return (
        torch.device("cuda", torch.cuda.current_device())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def may_differ_in_a_script(name: str, part: Any) -> bool:
    """Weights, moments and schedules are the same on every rank, or the script's training would be none."""
    return not isinstance(part, Module | Optimizer | LRScheduler | torch.amp.GradScaler)


class TrainedScript:
    """An attached job as the session sees it."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @property
    def parts(self) -> Mapping[str, Any]:
        return self._job.parts()

    @property
    def place(self) -> dict[str, int]:
        return {"step": self._job.position.steps, "epoch": self._job.position.epoch}

    @property
    def samples(self) -> int | None:
        return None  # a loader of the script's own counts batches, and who knows what is in them

    def take_rows(self) -> list[dict[str, Any]]:
        return self._job.logged.take_rows()


def run(channel: Channel) -> int:
    """Run the script that the spec names, and return the exit code. A failure is told."""
    requests = StopRequests()
    channel.listen(requests.receive)
    host = Supervised(channel.spec, send=channel.send, requests=requests, place=Place.of(channel))
    supervise(host)
    owner = os.getpid()
    code = _code_of_script(channel, host, owner)
    _end_as_python_does()
    return code


def _code_of_script(channel: Channel, host: Supervised, owner: int) -> int:
    try:
        try:
            execute(channel.spec)
        finally:
            _take_back_streams()
            _end_if_forked(owner)
        _wait_for_threads()
        host.finish(attached_job())
    except Leaving:
        return 0
    except SystemExit as ended:
        return _ended(ended, host, channel)
    except BaseException as error:
        return _failed(error, host, channel)
    return 0


def _take_back_streams() -> None:
    """What the script put into the place of stdout and stderr may be closed by now."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def _end_if_forked(owner: int) -> None:
    """A script may have forked itself with os.fork(): the end of that one is not the training's."""
    if os.getpid() == owner:
        return
    error = sys.exc_info()[1]
    if isinstance(error, SystemExit):
        os._exit(error.code if isinstance(error.code, int) else int(error.code is not None))
    if error is not None:
        traceback.print_exception(error, file=sys.stderr)
    os._exit(int(error is not None))


def _wait_for_threads() -> None:
    """As Python does at the end of a script: threads that are no daemons are waited for."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


def _end_as_python_does() -> None:
    """Do what the script registered with atexit, and write out the files that it left open: the process ends without
    taking its modules down, which would close them."""
    atexit._run_exitfuncs()
    for each in gc.get_objects():
        if isinstance(each, io.TextIOWrapper | io.BufferedWriter):
            with contextlib.suppress(OSError, ValueError):
                each.flush()


def execute(spec: TrainerSpec) -> None:
    """Run the script in its folder as `python script.py` would, with seeds and determinism set before."""
    program = Program.model_validate(spec.program.get("program", {}))
    folder = Path(spec.folder) / program.directory
    assert program.script is not None
    os.environ.update(program.variables)
    os.chdir(folder)
    environment.set_determinism(bool(spec.config.get("deterministic", True)))
    environment.set_threads(spec.threads, processes=spec.ranks)
    if program.hook:
        hooks.install(program.hook)
    seed_all(int(spec.config.get("seed", 0)))
    script = folder / program.script
    _remember_errors()
    sys.argv = [program.script, *program.arguments]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")


def _remember_errors() -> None:
    """argparse and others say on stderr why they leave with an exit code."""
    global _errors
    if isinstance(sys.stderr, io.TextIOWrapper):
        with contextlib.suppress(OSError, ValueError):  # there is no file behind it
            sys.stderr = _errors = RememberedErrors(sys.stderr)


def _ended(ended: SystemExit, host: Supervised, channel: Channel) -> int:
    """sys.exit() and sys.exit(0) are a good end; a number says it failed, and a text says why."""
    if host.has_left:
        return 0
    if ended.code in (None, 0):
        try:
            _wait_for_threads()
            host.finish(attached_job())
        except Leaving:
            pass
        return 0
    host.session.send_last_rows()
    last_lines = _errors.last_lines() if _errors else ""
    message = f"The script ended with exit code {ended.code}."
    if not isinstance(ended.code, int):
        message = f"The script ended itself: {ended.code}"
        print(ended.code, file=sys.stderr)  # as Python does
    elif last_lines:
        message = f"{message} Last on stderr: {last_lines.splitlines()[-1]}"
    channel.send(Failed(SCRIPT_ERROR, message, last_lines))
    return FAILED


def _failed(error: BaseException, host: Supervised, channel: Channel) -> int:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if host.has_left:
        return 0
    host.session.send_last_rows()
    traceback.print_exc(file=sys.stderr)
    code = code_of(error) if isinstance(error, Exception) else SCRIPT_ERROR
    if code is None:
        return CRASHED
    code = SCRIPT_ERROR if code == "recipe_error" else code
    channel.send(Failed(code, sentence_of(error, code, channel.spec.config), traceback.format_exc()))  # type: ignore[arg-type]
    return FAILED
