"""What the tests of commands share."""

import pytest

from tests.attached.commands import Led


@pytest.fixture
def lead():
    """lead(spec): an attempt of a command, that ends with the test."""
    led = []

    def start(spec, **options) -> Led:
        led.append(Led(spec, **options))
        return led[-1]

    yield start
    for each in led:
        each.close()


@pytest.fixture
def code(tmp_path):
    (tmp_path / "code").mkdir()
    return tmp_path / "code"
