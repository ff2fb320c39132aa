"""Four processes that write all the time: each waits its turn, and none is told that the database is locked."""

import pytest
from django.conf import settings

from tests.faults import writers

pytestmark = pytest.mark.processes


@pytest.mark.skipif(not settings.SQLITE, reason="SQLite only")
def test_two_seconds_of_writing_without_one_error(tmp_path):
    found = writers.run(2, tmp_path)
    assert (found["locked"], found["other"]) == (0, 0)
    assert found["transactions"] > 100


def test_python_alone_would_see_it_locked(tmp_path):
    assert writers.run(1, tmp_path, naive=True)["locked"] > 0
