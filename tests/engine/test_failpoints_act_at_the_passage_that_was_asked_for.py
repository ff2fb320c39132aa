import signal
import subprocess
import sys

import pytest

from heimdall import failpoints
from heimdall.failpoints import FailpointReached, failpoint


@pytest.fixture(autouse=True)
def disarmed():
    yield
    failpoints.configure("")


def test_it_raises_once_at_that_passage():
    failpoints.configure("here=raise:3")
    failpoint("here")
    failpoint("elsewhere")
    failpoint("here")
    with pytest.raises(FailpointReached):
        failpoint("here")
    failpoint("here")


def test_it_kills():
    code = "from heimdall.failpoints import failpoint; failpoint('here'); failpoint('here'); print('alive')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={failpoints.VARIABLE: "here=kill:2", "PYTHONPATH": "."},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""


def test_with_a_folder_it_acts_once_in_all_processes(tmp_path, monkeypatch):
    monkeypatch.setenv(failpoints.ONCE, str(tmp_path))
    for number in range(2):  # armed again, as in a new process
        failpoints.configure("here=raise")
        if number == 0:
            with pytest.raises(FailpointReached):
                failpoint("here")
        failpoint("here")
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize("text", ["here", "here=explode", "=kill", "here=kill:x"])
def test_a_bad_text_is_refused(text):
    with pytest.raises(ValueError, match="HEIMDALL_FAILPOINTS"):
        failpoints.configure(text)
