import signal
import subprocess
import sys

import pytest

from training.engine import failpoints
from training.engine.failpoints import FailpointReached, failpoint


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
    code = "from training.engine.failpoints import failpoint; failpoint('here'); failpoint('here'); print('alive')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={failpoints.VARIABLE: "here=kill:2", "PYTHONPATH": "."},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""


@pytest.mark.parametrize("text", ["here", "here=explode", "=kill", "here=kill:x"])
def test_a_bad_text_is_refused(text):
    with pytest.raises(ValueError, match="HEIMDALL_FAILPOINTS"):
        failpoints.configure(text)
