"""No file lies in the place of a staged one when it is to be stored: the job fails, its slot takes the next."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.running import running

pytestmark = pytest.mark.processes


def _link(path: Path) -> None:
    """To a file that is good."""
    copy = path.parent.parent / "copy"
    shutil.copy(path, copy)
    path.unlink()
    path.symlink_to(copy)


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("put", [_pipe, _link], ids=["a pipe", "a link"])
def test_a_job_whose_staged_file_is_no_file_fails_and_the_slot_takes_the_next(
    put: Callable[[Path], None], tmp_path
):
    once = tmp_path / "once"
    once.mkdir()
    with running(tmp_path, worker=False, HEIMDALL_SLOTS="1") as site:
        site.start_worker(HEIMDALL_FAILPOINTS="file_staged=stop", HEIMDALL_FAILPOINTS_ONCE=str(once))
        job, following = site.submit(epochs=2), site.submit(epochs=1)
        site.wait_until((once / "file_staged").exists, seconds=60)
        trainer = site.the("trainer", f"job {job}")
        site.wait_until(lambda: trainer.status() == psutil.STATUS_STOPPED, seconds=30)
        (staged,) = (site.data / "staging" / f"{job}-a1").glob("*.safetensors")
        put(staged)
        trainer.resume()
        ended = site.wait_for_status(job, "failed", seconds=60)
        assert ended["error_code"] == "bad_checkpoint"
        assert "is no regular file" in ended["error_message"]
        assert site.checkpoints(job) == []
        site.wait_for_status(following, "completed", seconds=60)
