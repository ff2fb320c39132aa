"""The search of every order in which hosts join a job; `python -m tests.lifecycle.host_search` does more."""

from dataclasses import replace

import pytest

from tests.lifecycle.host_search import HOST_GUARDS, HostBounds, search_hosts


@pytest.mark.parametrize(("hosts", "needed", "least"), [(3, 2, 1_000), (3, 3, 600)])
def test_no_order_leaves_a_part_of_the_hosts_or_a_slot_that_nobody_frees(hosts, needed, least):
    states, broken = search_hosts(HostBounds(hosts=hosts, needed=needed))
    assert broken is None
    assert states > least


@pytest.mark.parametrize("guard", HOST_GUARDS)
def test_a_rule_of_hosts_that_is_taken_away_is_noticed(guard):
    assert search_hosts(replace(HostBounds(), without=frozenset({guard})))[1]
