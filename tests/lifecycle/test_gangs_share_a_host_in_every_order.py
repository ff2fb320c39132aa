"""The search of every order in which jobs share a host; `python -m tests.lifecycle.gang_search` does more."""

from dataclasses import replace

import pytest

from tests.lifecycle.gang_search import GUARDS, JOBS, GangBounds, Kind, search_gangs

BOUNDS = GangBounds()


def test_no_order_lets_two_jobs_hold_a_slot_or_a_job_wait_for_ever():
    states, broken = search_gangs(GangBounds(slots=4, jobs=(*JOBS, Kind(1, 2))))
    assert broken is None
    assert states > 20_000


@pytest.mark.parametrize("guard", GUARDS)
def test_a_rule_of_gangs_that_is_taken_away_is_noticed(guard):
    assert search_gangs(replace(BOUNDS, without=frozenset({guard})))[1]
