"""A trainer that does what it is told, and no training."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

from heimdall.processes import die_with_parent
from heimdall.trainer.channel import Channel, connect
from heimdall.trainer.protocol import Exit, StepsDone, ToTrainer
from tests.engine.standin_messages import (
    ChildFiles,
    ChildForked,
    ChildTerminated,
    CloseAllFiles,
    Echo,
    Echoed,
    ForkChild,
    Left,
    ListChildFiles,
    MakeRows,
    Print,
    Printed,
    RaiseSignal,
    Ready,
    RowsMade,
    StartDaemon,
    TerminateChild,
)


def run(channel: Channel) -> int:
    exiting = threading.Event()
    heard: list[ToTrainer] = []

    def receive(message: ToTrainer) -> None:
        heard.append(message)
        match message:
            case Exit():
                exiting.set()
            case Echo():
                channel.send(Echoed(message.value))
            case Print():
                print(message.text, end="", flush=True)
                print(message.text, end="", file=sys.stderr, flush=True)
                channel.send(Printed())
            case MakeRows():
                for first in range(0, message.count, 100):
                    rows = [{"step": step} for step in range(first, first + 100)]
                    channel.send(StepsDone(rows))
                print("every step is made", flush=True)
                channel.send(RowsMade())
            case RaiseSignal():
                os.kill(os.getpid(), getattr(signal, message.name))
            case CloseAllFiles():
                above_all = 1 + max(int(name) for name in os.listdir("/proc/self/fd"))
                os.closerange(message.above + 1, above_all)
                for _ in range(above_all if message.in_their_place else 0):
                    os.open(message.in_their_place, os.O_RDWR | os.O_CREAT)
                channel.send(Echoed(0))
            case ForkChild():
                channel.send(ChildForked(_fork(message.keep)))
            case StartDaemon():
                channel.send(ChildForked(_start_daemon()))
            case TerminateChild():
                child = subprocess.Popen(["sleep", "60"])
                child.terminate()
                channel.send(ChildTerminated(child.wait(10)))
            case ListChildFiles():
                child = subprocess.Popen(
                    [sys.executable, "-c", _FDS], stdout=subprocess.PIPE, close_fds=False
                )
                channel.send(ChildFiles(json.loads(child.communicate()[0])))

    names = (
        "CUDA_DEVICE_ORDER",
        "CUDA_VISIBLE_DEVICES",
        "CUBLAS_WORKSPACE_CONFIG",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
    )
    facts = {
        "pid": os.getpid(),
        "session": os.getsid(0),
        "title": channel.spec.name_title,
        "config": channel.spec.config,
        "environment": {name: os.environ.get(name) for name in (*names, "PYTHONHASHSEED")},
        "heimdall": sorted(name for name in os.environ if name.startswith(("HEIMDALL_", "DATABASE_"))),
        "modules": sorted({"torch", "django"} & set(sys.modules)),
        "fds": _open_fds(),
    }
    channel.send(Ready(facts))
    channel.listen(receive)
    exiting.wait()
    channel.send(Left([message.kind for message in heard]))
    return 3


def _fork(keep: bool) -> int:
    """A loader worker: one that goes with its parent, or one that hangs on."""
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        if not keep:
            die_with_parent(parent)
        time.sleep(60)
        os._exit(0)
    return pid


def _start_daemon() -> int:
    reader, writer = os.pipe()
    first = os.fork()
    if first == 0:
        os.setsid()
        daemon = os.fork()
        if daemon == 0:
            time.sleep(600)
        os.write(writer, str(daemon).encode())
        os._exit(0)
    os.waitpid(first, 0)
    return int(os.read(reader, 20))


def _open_fds() -> list[str]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            continue
    return sorted(link for link in found if "pipe:" in link or "socket:" in link)


_FDS = "import os, json; print(json.dumps([os.readlink('/proc/self/fd/%s' % n) for n in range(3, 50) "
_FDS += "if os.path.exists('/proc/self/fd/%s' % n)]))"


if __name__ == "__main__":
    channel = connect()
    channel.finish(run(channel))
