"""What `--help` of other commands costs that people steer trainings with, each in an environment of its own.

Installed once below .venv/peers with the versions named here. Prints JSON: of each the median in milliseconds and the
time of the processor, or the reason why there is none.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench.client import started

FOLDER = Path(__file__).resolve().parents[1] / ".venv" / "peers"
PEERS = {  # what is installed, and the command
    "wandb": ("wandb==0.31.0", "wandb"),
    "clearml": ("clearml==2.1.12", "clearml-init"),
    "skypilot": ("skypilot==0.14.1", "sky"),
}
INSTALL_SECONDS = 240


def main() -> None:
    print(json.dumps({name: _help_of(name, *peer) for name, peer in PEERS.items()}))


def _help_of(name: str, package: str, command: str) -> dict[str, object]:
    found: dict[str, object] = {"command": f"{command} --help", "package": package}
    try:
        path = _installed(FOLDER / name, package) / command
        return found | dict(zip(("ms", "cpu"), started(str(path), "--help"), strict=True))
    except subprocess.SubprocessError as error:
        text = getattr(error, "stderr", None) or str(error)
        lines = (text.decode() if isinstance(text, bytes) else text).strip().splitlines()
        return found | {"missing": (lines or ["it could not be installed"])[-1][:120]}


def _installed(folder: Path, package: str) -> Path:
    """Where the commands of this package are."""
    programs, mark = folder / "bin", folder / f"{package}.installed"
    if not mark.exists():
        subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(folder)], check=True, capture_output=True
        )
        install = [
            str(programs / "python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            package,
        ]
        subprocess.run(install, check=True, capture_output=True, timeout=INSTALL_SECONDS)
        mark.touch()
    return programs


if __name__ == "__main__":
    main()
