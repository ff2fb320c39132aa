"""A recipe that prints without end fills neither the database nor the page; its first and newest lines are kept."""

from __future__ import annotations

import pytest

from training.models import LogChunk
from training.runner import log_limit
from training.runner.log_limit import BURST_CHARACTERS, TAIL_CHARACTERS, LogLimit


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(settings) -> Clock:
    settings.LOG_MB, settings.LOG_KB_PER_SECOND = 1, 10
    return Clock()


def printed_for(seconds: int, limit: LogLimit, clock: Clock) -> str:
    """A line of 100 characters a millisecond, passed on ten times a second."""
    written = ""
    for tenth in range(seconds * 10):
        written += limit.pass_on("".join(f"{tenth:05}{number:05}{'x' * 89}\n" for number in range(100)))
        clock.now += 0.1
    return written


def test_a_log_below_the_limits_is_written_as_it_was(clock):
    limit = LogLimit(0, clock=clock)
    assert [limit.pass_on(text) for text in ("one\n", "", "two\n")] == ["one\n", "", "two\n"]
    assert limit.rest() == ""


def test_no_more_is_written_for_long_than_the_rate(clock):
    limit = LogLimit(0, clock=clock)
    written = printed_for(60, limit, clock)
    assert 60 * 10_000 / 2 < len(written) < BURST_CHARACTERS + 60 * 10_000 + 2_000


def test_the_first_and_the_newest_lines_are_kept_and_the_gap_is_counted(clock):
    limit = LogLimit(0, clock=clock)
    text = printed_for(10, limit, clock) + limit.rest()
    assert text.startswith("0000000000")
    assert text.endswith(f"0009900099{'x' * 89}\n")
    gaps = [int(line.split()[1]) for line in text.splitlines() if line.startswith("[... ")]
    said = sum(len(line) + 2 for line in text.splitlines() if line.startswith("[... "))
    assert sum(gaps) + len(text) - said == 10 * 100_000
    assert "HEIMDALL_LOG_KB_PER_SECOND" in text


def test_a_job_whose_log_is_full_keeps_only_the_end_of_each_attempt(clock):
    limit = LogLimit(1_000_000 - 500, clock=clock)
    assert len(printed_for(30, limit, clock)) == 500
    rest = limit.rest()
    assert "HEIMDALL_LOG_MB" in rest
    assert TAIL_CHARACTERS < len(rest) < TAIL_CHARACTERS + 200


@pytest.mark.django_db(transaction=True)
def test_what_was_held_back_is_written_with_the_end(training, settings, monkeypatch):
    monkeypatch.setattr(log_limit, "BURST_CHARACTERS", 10)
    settings.LOG_KB_PER_SECOND = 0
    LogChunk.objects.create(job=training.attempt.job, attempt=0, text="before")
    training.trainer.log = "the first line\nthe last words\n"
    training.turn()
    training.trainer.kill()
    while not training.turn():
        pass
    text = "".join(LogChunk.objects.filter(attempt=training.attempt.number).values_list("text", flat=True))
    assert text == "the first line\nthe last words\n"
