"""Try right after the first step whether the training could be resumed, instead of a week later.

A fork of the trainer builds everything a second time, on the CPU, and loads into it what a checkpoint of this moment
would give back. The training goes on meanwhile: the fork has its own copy of every generator and of all memory, one
thread, the last place in the queue for a core, and is the first to go where memory is short. What it finds is read
between two steps.
"""

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

from heimdall import failpoints
from heimdall.codec import encoding
from heimdall.engine.errors import Refused
from heimdall.processes import die_with_parent

LONGEST_SECONDS = 60.0
LARGEST_STATE = 2 * 2**30
COPIES = (
    4  # of the state, that the fork holds at once: what it loads, the second build, and its optimizer twice
)


class ResumeCheck:
    """One try. `refusal` says, once it is over, why the training cannot be resumed; mostly nothing."""

    def __init__(self, state: Mapping[str, Any], load: Callable[[Any], None]) -> None:
        """`load` is called in the fork with the state as a file gives it back. It builds and loads; what it raises
        as Refused is the finding, and anything else means that nothing could be tried."""
        self.refusal: Refused | None = None
        state = _on_the_cpu(state)
        reader, writer = os.pipe()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _try(state, load, writer, parent)
        os.close(writer)
        self._deadline = time.monotonic() + LONGEST_SECONDS
        self._thread = threading.Thread(target=self._wait, args=(reader,), name="resume-check", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def wait(self, seconds: float) -> bool:
        """Whether it is over; waits so long for it."""
        self._thread.join(seconds)
        return self.is_over

    def close(self) -> None:
        """Give up, if it is not over."""
        self._deadline = 0.0

    def _wait(self, reader: int) -> None:
        found = b""
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            while time.monotonic() < self._deadline:
                if select.select([pipe], [], [], 0.1)[0]:
                    piece = pipe.read(65_536)
                    if not piece:
                        break
                    found += piece
            else:
                os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._judge(found)

    def _judge(self, found: bytes) -> None:
        try:
            verdict = json.loads(found)
        except ValueError:
            verdict = {"not_tried": f"it had not ended after {LONGEST_SECONDS:g} s, or was ended"}
        if "refused" in verdict:
            self.refusal = Refused(verdict["code"], verdict["refused"])
        elif "not_tried" in verdict and self._deadline:
            say_not_tried(verdict["not_tried"])


def why_not(state: Mapping[str, Any]) -> str:
    """Why nothing is tried here; empty where it is."""
    if not hasattr(os, "fork") or sys.platform != "linux":
        return "it needs Linux"
    size = sum(tensor.nbytes for tensor in _tensors(state))
    if size > LARGEST_STATE:
        return f"the state has {size / 2**30:.1f} GiB, and {LARGEST_STATE / 2**30:g} GiB are the most"
    if size * COPIES > _free_memory():
        return "there is too little memory for a second build"
    return ""


def say_not_tried(reason: str) -> None:
    print(f"A resume was not tried after the first step: {reason}.", file=sys.stderr)


def _try(state: Any, load: Callable[[Any], None], writer: int, parent: int) -> NoReturn:
    """In the fork, which ends here whatever happens."""
    try:
        die_with_parent(parent)
        _give_way()
        verdict: dict[str, str] = {}
        try:
            load(encoding.copied(state))
        except Refused as error:
            verdict = {"code": error.code, "refused": str(error)}
        except Exception as error:
            verdict = {"not_tried": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        os.write(writer, json.dumps(verdict).encode()[:65_536])
    finally:
        os._exit(0)


def _give_way() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (1, 2):  # what the second build prints was printed by the first one
        os.dup2(nowhere, stream)
    sys.stdout = sys.stderr = os.fdopen(nowhere, "w")
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    os.nice(19)
    torch.set_num_threads(1)  # those of the parent are not here
    failpoints.configure("")


def _on_the_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu() if value.device.type != "cpu" else value
    if type(value) is dict:
        return {key: _on_the_cpu(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_on_the_cpu(item) for item in value)
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _free_memory() -> int:
    try:
        with open("/proc/meminfo") as file:
            found = dict(line.split(":") for line in file)
        return int(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0
