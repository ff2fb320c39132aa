"""Send a checkpoint of any size through an S3 server and print how much memory this process took for each step.

    python -m tests.storage.weigh --megabytes 5000

The file is made by another process, from a file that is mapped and not read; the server is rclone's, over a folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.storage.servers import BUCKET, CREDENTIALS, rclone

MAKE = """
import json, sys, torch
from heimdall import codec
path, megabytes = sys.argv[1], int(sys.argv[2])
raw = path + ".raw"
open(raw, "wb").truncate(megabytes * 2**20)
weight = torch.from_file(raw, shared=False, size=megabytes * 2**18, dtype=torch.float32)
saved = codec.save(path, {"model": {"weight": weight}}, {"step": 1})
print(json.dumps([saved.digest, saved.size, saved.header_sha256]))
"""
took: dict[str, dict[str, float]] = {}


@contextmanager
def weighed(step: str) -> Iterator[None]:
    """The most memory that the process held during the step, in MB."""
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark begins anew
    began = time.monotonic()
    yield
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1000
    took[step] = {"peak_mb": round(peak), "seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=300)
    megabytes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory(prefix="heimdall-weigh-") as name, rclone(Path(name) / "s3") as address:
        folder = Path(name)
        (folder / "s3" / BUCKET).mkdir(parents=True)
        os.environ |= CREDENTIALS | {"HEIMDALL_S3_BUCKET": BUCKET, "HEIMDALL_S3_ENDPOINT": address}
        os.environ |= {
            "HEIMDALL_DATA_DIR": str(folder / "data"),
            "DJANGO_SETTINGS_MODULE": "heimdall.site.settings",
        }
        import django

        django.setup()
        send_through(folder, megabytes)
    print(json.dumps({"megabytes": megabytes, "steps": took}))


def send_through(folder: Path, megabytes: int) -> None:
    from heimdall import codec
    from heimdall.trainer.protocol import StagedCheckpoint
    from training.models import Checkpoint
    from training.store import checkpoints

    path = folder / "staged.safetensors"
    made = subprocess.run(
        [sys.executable, "-c", MAKE, str(path), str(megabytes)], check=True, capture_output=True, text=True
    )
    digest, size, sha256 = json.loads(made.stdout)
    (folder / "staged.safetensors.raw").unlink()
    facts = {"digest": digest, "size": size, "header_sha256": sha256}
    staged = StagedCheckpoint(path=str(path), step=1, epoch=1, kinds=("pause",), **facts)
    with weighed("before"):
        checkpoints.mark()
    with weighed("store"):
        stored = checkpoints.store(staged, job_id=1, attempt=1)
    row = Checkpoint(pk=1, job_id=1, file=stored.name, size=size, digest=digest, header_sha256=sha256)
    with weighed("fetch"):
        copy = checkpoints.fetch(row, folder / "fetched")
    with weighed("bundle"):
        codec.extract(copy, folder / "bundle", parts={"model": ("model",)}, about={"step": 1})
    assert "torch" not in sys.modules


if __name__ == "__main__":
    main()
