"""A few random kills in the suite; `make chaos KILLS=500` does more."""

from __future__ import annotations

import pytest

from tests.faults.chaos import SETTINGS, Chaos
from tests.support.running import running

pytestmark = pytest.mark.processes


def test_three_random_kills_lose_nothing_and_change_no_bit(tmp_path):
    with running(tmp_path, **SETTINGS) as site:
        chaos = Chaos(site, kills=3, seed=4)
        chaos.run()
        print(chaos.report())
