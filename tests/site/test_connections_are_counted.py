"""Who gets a place, and who has to go when there is none."""

import pytest

from heimdall.site.connections import Connections, group_of


class Line:
    def __init__(self) -> None:
        self.is_closed = False

    def give_way(self) -> None:
        self.is_closed = True


def opened(table: Connections, *groups: str | None) -> list[Line]:
    lines = [Line() for _ in groups]
    for line, group in zip(lines, groups, strict=True):
        assert table.admit(line, group)
    return lines


def test_one_too_many_takes_the_place_of_the_one_that_waited_longest():
    table = Connections(3, 3)
    first, second, third = opened(table, "a", "b", "c")
    table.works(first)
    (fourth,) = opened(table, "d")
    assert [line.is_closed for line in (first, second, third, fourth)] == [False, True, False, False]
    table.waits(first)  # it has waited for a shorter time than the third
    opened(table, "e")
    assert [line.is_closed for line in (first, third, fourth)] == [False, True, False]
    assert len(table) == 3


def test_an_address_with_too_many_pushes_out_its_own_and_nobody_else():
    table = Connections(100, 2)
    (other,) = opened(table, "b")
    mine = opened(table, "a", "a", "a", "a")
    assert [line.is_closed for line in mine] == [True, True, False, False]
    assert not other.is_closed


def test_where_all_are_at_work_the_new_one_is_refused():
    table = Connections(2, 2)
    for line in opened(table, "a", "b"):
        table.works(line)
    assert not table.admit(Line(), "c")
    table = Connections(9, 1)
    (line,) = opened(table, "a")
    table.works(line)
    assert not table.admit(Line(), "a")
    table.leave(line)
    table.leave(line)
    opened(table, "a")


def test_a_socket_keeps_the_place_of_its_request_and_never_waits():
    table = Connections(1, 1)
    (line,) = opened(table, "a")
    table.hand_over(line, socket := Line())
    assert not table.admit(Line(), "a")
    table.leave(line)
    assert len(table) == 1
    table.leave(socket)
    opened(table, "a")


def test_a_request_through_a_proxy_counts_for_the_person_behind_it():
    table = Connections(9, 1)
    one, two = opened(table, None, None)
    table.works(one)
    table.works(two)
    assert table.belongs_to(one, "a")
    assert not table.belongs_to(two, "a")
    assert table.belongs_to(one, None)  # answered: the proxy's connection is anybody's again
    assert table.belongs_to(two, "a")


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("192.168.7.9", None),  # our proxy
        ("junk", None),
        (None, None),
    ],
)
def test_what_counts_as_one_address(address, group, settings):
    from ipaddress import ip_network

    settings.TRUSTED_PROXIES = [ip_network("192.168.7.0/24")]
    assert group_of(address) == group


def test_nothing_is_kept_of_connections_that_are_gone():
    table = Connections(100, 10)
    for number in range(1000):
        (line,) = opened(table, f"10.0.{number}.1")
        table.leave(line)
    kept = {name: value for name, value in vars(table).items() if not isinstance(value, int)}
    assert not any(kept.values())
