"""What the tests of scripts and of commands share: servers that have imported what takes long, and fork trainers."""

from collections.abc import Iterator

import pytest

from heimdall.trainer.launch import Launcher
from tests.attached.commands import Led
from tests.attached.scripts import FRAMEWORKS, warm


@pytest.fixture(scope="package")
def launcher() -> Iterator[Launcher]:
    with warm("heimdall.attached.command") as launcher:
        yield launcher


@pytest.fixture(scope="package")
def launcher_with_frameworks() -> Iterator[Launcher]:
    with warm(*FRAMEWORKS) as launcher:
        yield launcher


@pytest.fixture
def lead(launcher):
    """lead(spec): an attempt of a command, that ends with the test."""
    led = []

    def start(spec, **options) -> Led:
        led.append(Led(spec, **{"launcher": launcher} | options))
        return led[-1]

    yield start
    for each in led:
        each.close()


@pytest.fixture
def code(tmp_path):
    (tmp_path / "code").mkdir()
    return tmp_path / "code"
