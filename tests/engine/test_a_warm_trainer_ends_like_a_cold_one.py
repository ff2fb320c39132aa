"""Forked from a server with torch, with loader workers: the same bits as in a process without any of that."""

import ctypes
import mmap
import os
import platform
import sys
import time
from pathlib import Path

import psutil
import pytest

from heimdall.recipes import registry
from heimdall.trainer import forkserver
from heimdall.trainer.handle import Trainer
from heimdall.trainer.protocol import Exit, FileStored, Finished, StagedCheckpoint, StepsDone, TrainerSpec
from heimdall.trainer.warm import WarmLauncher
from tests.recipes.in_process import train
from tests.support.running import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux")
CONFIG = {"epochs": 2, "num_workers": 2, "seed": 3}


@pytest.fixture(scope="module")
def launcher():
    launcher = WarmLauncher(preload=["heimdall.recipes.config"])
    yield launcher
    launcher.close()


def finish(launcher: WarmLauncher, folder: Path) -> tuple[str, list[dict], int]:
    folder.mkdir()
    spec = TrainerSpec(
        package=registry.get("tiny").package,
        config=registry.validate("tiny", CONFIG),
        staging=str(folder),
        scratch=str(folder),
        device="cpu",
        threads=1,
    )
    trainer = Trainer.start(spec, launcher=launcher)
    parent = psutil.Process(trainer.pid).ppid()
    digest, rows = "", []
    try:
        deadline = time.monotonic() + 90 * PATIENCE
        while trainer.exit_status() is None:
            assert time.monotonic() < deadline, trainer.read_log()
            match trainer.receive(0.2):
                case StepsDone(rows=new):
                    rows += new
                case StagedCheckpoint(digest=digest, path=path):
                    trainer.send(FileStored(path))
                case Finished():
                    trainer.send(Exit())
        assert trainer.exit_status() == 0, trainer.read_log()
    finally:
        trainer.close()
    return digest, rows, parent


def test_the_same_bits_every_time(launcher: WarmLauncher, tmp_path: Path) -> None:
    here = train("tiny", CONFIG, tmp_path / "here")
    for number in range(2):
        digest, rows, server = finish(launcher, tmp_path / str(number))
        assert digest == here.of("staged")[-1].digest
        assert rows == here.steps
        assert server != os.getpid()
        assert len(os.listdir(f"/proc/{server}/task")) == 1  # whatever it forked, it has run nothing


def test_only_memory_that_is_in_use_is_gathered_into_large_pages() -> None:
    """Holes that were filled would cost each host tens of megabytes."""
    large = 2 * 2**20
    with mmap.mmap(-1, 3 * large, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        held = (ctypes.c_char * 1).from_buffer(memory)
        full = -(-ctypes.addressof(held) // large) * large
        first = full - ctypes.addressof(held)
        del held
        for offset in (*range(0, large, mmap.PAGESIZE), *range(large, large * 3 // 2, mmap.PAGESIZE)):
            memory[first + offset] = 1
        found = set(forkserver._nearly_full())
        assert full in found
        assert full + large not in found


def test_what_the_forks_share_lies_in_large_pages(launcher: WarmLauncher) -> None:
    """A trainer's start and end cost the kernel less: it has fewer pages to write down and to give back."""
    release = tuple(int(part) for part in platform.release().split(".")[:2])
    switch = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if release < (6, 1) or not switch.exists() or "[never]" in switch.read_text():
        pytest.skip("this kernel gathers no pages when asked")
    launcher.warm_up()
    while launcher.is_getting_ready():
        time.sleep(0.05)
    assert launcher._server
    lines = Path(f"/proc/{launcher._server.pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    assert kilobytes["AnonHugePages"] > 0.5 * kilobytes["Anonymous"]
