"""A fork server: a process that has torch imported already and forks the trainers of one supervisor.

It belongs to that supervisor and dies with it. It is a process in a session of its own that has torch and the engine
imported, runs no torch operation and no CUDA call, and stays single-threaded: a fork of a process with threads could
hang. For each request it forks a trainer, which sets up its own end (see `be_trainer`), and it tells the supervisor
of each that has ended: {"pid", "code"}, the code negative for a signal.

It is forked from the host's zygote (zygote.py), or a new interpreter where there is none. server_handle.py is the
supervisor's side.
"""

import contextlib
import ctypes
import importlib
import mmap
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from heimdall.processes import can_be_forked, die_with_parent, num_threads, share_memory
from heimdall.trainer import channel as trainer_channel
from heimdall.trainer import launch
from heimdall.trainer.channel import open_channel
from heimdall.trainer.family import Family
from heimdall.trainer.launch import ChildEnds, RankEnds
from heimdall.trainer.protocol import (
    MOST_RANKS,
    PACKET_BYTES,
    RECIPE_DRIVER,
    ForkRefused,
    ForkTrainer,
    FromForkServer,
    ServerReady,
    TrainerForked,
    decode,
    encode,
)

SUPERVISOR_DIED = signal.SIGUSR1
TITLE = "heimdall fork server"

_NVML_CHECK = "PYTORCH_NVML_BASED_CUDA_CHECK"
MOST_FILES = MOST_RANKS + 3  # of a packet: two pipes, the page that ranks share, and a log for each of them
_LARGE_PAGE = 2 * 2**20
_SMALL_PAGES = _LARGE_PAGE // mmap.PAGESIZE
_MADV_COLLAPSE = 25  # since Linux 6.1
# What every trainer needs. The first optimizer would import torch._dynamo, for seconds; every config is made of
# pydantic, and `import pydantic` alone loads little of it.
NEEDED = ("torch._dynamo", RECIPE_DRIVER, "pydantic.main", "pydantic.fields", "pydantic.types")
Run = Callable[[Any], int]  # what a trainer does; it gives the exit code
BeTrainer = Callable[
    [dict[str, str], RankEnds, int], NoReturn
]  # what a fork does: environment, pipe ends, server


def server_environment(environment: Mapping[str, str]) -> dict[str, str]:
    # Asking for GPUs must not start CUDA here: a fork could not use it then.
    return launch.base_environment(environment) | {_NVML_CHECK: "1"}


def main(run: Run = trainer_channel.drive, *, needed: Sequence[str] = NEEDED) -> None:
    parent_socket = connect()
    get_ready([*needed, *sys.argv[3:]], title=TITLE)
    serve(parent_socket, partial(be_trainer, run))


def connect() -> socket.socket:
    """To the supervisor that has started this server."""
    parent_socket, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    parent_socket.set_inheritable(False)
    die_with_parent(parent, SUPERVISOR_DIED)  # not at once: what trainers have started is to go first
    return parent_socket


def get_ready(modules: Sequence[str], *, title: str) -> None:
    """Import what the forks need, and make sure that they can use it and share it."""
    trainer_channel.ignore_signals()
    trainer_channel.set_title(title)
    preload(modules)
    require_one_thread()
    require_no_cuda()
    share_memory()
    gather_into_large_pages()


def preload(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)


def require_one_thread() -> None:
    if not can_be_forked():
        raise RuntimeError(f"the fork server has {num_threads()} threads; a fork of it could hang")


def require_no_cuda() -> None:
    # NVML opens other devices; this one is opened when CUDA starts.
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}") == "/dev/nvidia-uvm":
                raise RuntimeError("an import has started CUDA; a fork of this process could not use it")


def gather_into_large_pages() -> None:
    """Have the kernel lay the memory that forks will share into pages of 2 MB, where it can.

    Each fork gets a table of all pages, and its end takes that down again: in pages of 4 kB this server's 215 MB cost
    each trainer 7 ms of processor time at its start and about 10 at its end, for which its slot waits. Where
    much of 2 MB is not in use, it stays as it is: a large page would fill the holes.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.malloc_trim(0)  # what was needed for the imports alone
    for begin in _nearly_full():
        # An older kernel refuses, and all stays as it was.
        libc.madvise(begin, _LARGE_PAGE, _MADV_COLLAPSE)


def _nearly_full() -> Iterator[int]:
    """Where a large page could lie in our own memory, and nearly all of it is in use."""
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        for begin in _large_pages():
            # Eight bytes a page; the highest bit says whether it is there.
            entries = os.pread(pagemap.fileno(), _SMALL_PAGES * 8, begin // mmap.PAGESIZE * 8)
            if sum(highest >> 7 for highest in entries[7::8]) >= _SMALL_PAGES * 7 // 8:
                yield begin


def _large_pages() -> Iterator[int]:
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, rights, _, _, inode, *name = line.split()
        if rights == "rw-p" and inode == "0" and name in ([], ["[heap]"]):
            begin, end = (int(address, 16) for address in place.split("-"))
            yield from range(-(-begin // _LARGE_PAGE) * _LARGE_PAGE, end - _LARGE_PAGE + 1, _LARGE_PAGE)


def serve(parent: socket.socket, become: BeTrainer, *, supervisor: int | None = None) -> NoReturn:
    """Fork when asked, and tell of each end. A loop: 1 wait, 2 what ended, 3 what is asked.

    `supervisor` is a pidfd, where the supervisor is not our parent and the kernel sends no signal at its death.
    """
    family = Family()
    wake_reader, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(SUPERVISOR_DIED, lambda *_: family.end())
    _tell_ready(parent)
    sources: list[Any] = [parent, wake_reader]
    keep_out = [wake_reader, wake_writer]
    if supervisor is not None:
        sources.append(supervisor)
        keep_out.append(supervisor)
    while True:
        readable = select.select(sources, [], [])[0]
        if supervisor in readable:
            family.end()
        if wake_reader in readable:
            os.read(wake_reader, 4096)
            for ended in family.ended():
                _tell(parent, ended)
        if parent in readable:
            _fork_if_asked(parent, become, family, keep_out=keep_out)


def _fork_if_asked(
    parent: socket.socket, become: BeTrainer, family: Family, *, keep_out: Sequence[int]
) -> None:
    try:
        packet, fds, _, _ = socket.recv_fds(parent, PACKET_BYTES, MOST_FILES)
    except ConnectionError:
        packet, fds = b"", []
    if not packet:
        family.end()  # the supervisor is gone
    request = decode(packet, ForkTrainer)
    pids: list[int] = []
    try:
        require_one_thread()
        ends = ChildEnds.of_files(fds, ranks=len(request.environments))
        server = os.getpid()
        for rank, environment in enumerate(request.environments):
            pid = os.fork()
            if pid == 0:
                own = ends.of_rank(rank)
                for fd in (parent.detach(), *keep_out, *_others(fds, own)):
                    os.close(fd)
                become(environment, own, server)
            pids.append(pid)
        family.add(pids)
        _tell_forked(parent, request.request, pids)
    except (OSError, RuntimeError) as error:
        family.kill(pids)
        _tell(parent, ForkRefused(request.request, str(error)))
    finally:
        for fd in fds:
            os.close(fd)


def _others(fds: Sequence[int], own: RankEnds) -> set[int]:
    """A rank holds no end of another one's pipes: their readers would wait for it."""
    return set(fds) - {own.control, own.messages, own.log, own.page}


def _tell_forked(parent: socket.socket, request: int, pids: list[int]) -> None:
    # Nobody but us waits for them, so that the numbers are still their own.
    with contextlib.ExitStack() as closing:
        pidfds = [os.pidfd_open(pid) for pid in pids]
        for pidfd in pidfds:
            closing.callback(os.close, pidfd)
        _tell(parent, TrainerForked(request, pids), pidfds)


def be_trainer(run: Run, environment: dict[str, str], ends: RankEnds, server: int) -> NoReturn:
    code = 1
    try:
        die_with_parent(server)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, SUPERVISOR_DIED):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        print_into(ends.log)
        os.environ.pop(_NVML_CHECK, None)
        os.environ.update(environment)
        channel = trainer_channel.settle(open_channel(ends))
        channel.finish(run(channel))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        # Never back into the server's loop.
        os._exit(code)


def print_into(log: int) -> None:
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)


def environment_with(own: dict[str, str]) -> dict[str, str]:
    """This server's, as a trainer has it."""
    return {name: value for name, value in os.environ.items() if name != _NVML_CHECK} | own


def _tell_ready(parent: socket.socket) -> None:
    me = os.pidfd_open(os.getpid())
    _tell(parent, ServerReady(os.getpid()), [me])
    os.close(me)


def _tell(parent: socket.socket, message: FromForkServer, fds: list[int] | None = None) -> None:
    try:
        socket.send_fds(parent, [encode(message)], fds or [])
    except OSError:
        os._exit(0)


if __name__ == "__main__":
    main()
