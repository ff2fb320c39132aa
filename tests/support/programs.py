"""Code of programs as people bring it: a folder of texts as one archive, and the example scripts."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heimdall.code_archive import pack
from tests.support.running import ROOT, Site
from training import services
from training.models import CodeArchive

EXAMPLES = ROOT / "examples"
HELLO = {"train.py": "print('hello')\n"}


def archive_of(files: Mapping[str, str]) -> bytes:
    """The files as the archive that a folder with them makes."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "code"
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        packed = pack(root, Path(place) / "code.tar.gz")
        return packed.path.read_bytes()


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """An archive of exactly these entries, such as nobody's folder makes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def kept(by: Any, files: Mapping[str, str] = HELLO) -> CodeArchive:
    return services.keep_code(io.BytesIO(archive_of(files)), by=by)


def submitted(by: Any, *, files: Mapping[str, str] = HELLO, **fields: Any) -> Any:
    """A queued job that runs `python train.py` of these files."""
    options: dict[str, Any] = {
        "job_name": "mine",
        "config": {},
        "program": {"command": ["python", "train.py"]},
    } | fields
    return services.submit(by=by, code=kept(by, files).digest, **options).job


def bring(site: Site, files: Mapping[str, str]) -> str:
    """Uploads the files to a running server. Returns the digest."""
    sent = site.send("POST", "/v1/training/code", archive_of(files), "application/octet-stream")
    return str(sent["digest"])


def example(name: str) -> dict[str, str]:
    """The files of one of the examples."""
    return {path.name: path.read_text() for path in sorted((EXAMPLES / name).iterdir()) if path.is_file()}
