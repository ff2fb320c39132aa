"""`make bench RUNS=5`: median and quartiles over whole runs."""

from bench.figure import Figure
from bench.runs import over


def runs_of(*values: float | None) -> list[list[Figure]]:
    return [[Figure("loop", "a step", value, "ms", 10)] for value in values]


def test_one_good_run_among_five_keeps_no_aim_and_one_bad_run_loses_none():
    (figure,) = over(runs_of(9, 12, 13, 14, 15))
    assert (figure.value, figure.bounds, figure.verdict) == (13, (12, 14), "MISSED")
    (figure,) = over(runs_of(8, 9, 9.5, 9.6, 40))
    assert (figure.value, figure.bounds, figure.verdict) == (9.5, (9, 9.6), "ok")


def test_a_run_without_the_figure_fails_it():
    (figure,) = over(runs_of(8, None, 8))
    assert figure.verdict == "failed"
    assert figure.note.startswith("measured in 2 of 3 runs")
    missing = [*runs_of(8, 8), [Figure("loop", "could not be measured", None, "")]]
    assert [figure.verdict for figure in over(missing)] == ["failed", "failed"]


def test_one_run_is_shown_as_it_is():
    (run,) = runs_of(8)
    assert over([run]) is run
