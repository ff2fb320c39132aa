"""300 MB go to the bucket, are checked there, come back and become a bundle, all within 200 MB of memory.

The same command takes 5 GB: `make weigh MEGABYTES=5000`.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.storage.servers import rclone_program
from tests.support.running import PATIENCE

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(rclone_program() is None, reason="rclone is not installed")
def test_300_mb_pass_through_200_mb():
    command = [sys.executable, "-m", "tests.storage.weigh", "--megabytes", "300"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120 * PATIENCE)
    assert done.returncode == 0, done.stderr
    steps = json.loads(done.stdout.splitlines()[-1])["steps"]
    assert set(steps) == {"before", "store", "fetch", "bundle"}
    for name, step in steps.items():
        assert step["peak_mb"] < 200, steps
        assert step["peak_mb"] - steps["before"]["peak_mb"] < 90, (name, steps)
