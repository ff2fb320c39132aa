"""Rungs: who rests, who goes on, and that a whole search by halving finds what training everything would find."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.sweeps.plan import SweepPlan
from training.sweeps.rungs import MemberState, bracket_of, next_rung, num_brackets, promotable, rungs

ASHA = SweepPlan(stopper="asha", eta=3, first_epochs=1)


def resting(number: int, epochs: int, **values: float) -> MemberState:
    return MemberState(
        number, epochs=epochs, is_resting=True, values={int(k[1:]): v for k, v in values.items()}
    )


def test_rungs_lie_eta_times_apart_and_the_last_is_the_end():
    assert rungs(ASHA, 27) == [1, 3, 9, 27]
    assert rungs(ASHA, 20) == [1, 3, 9, 20]
    assert rungs(SweepPlan(), 20) == [20]
    assert next_rung(ASHA, 27, 0, 0) == 1
    assert next_rung(ASHA, 27, 0, 1) == 3
    assert next_rung(ASHA, 27, 0, 9) is None  # then it trains to its end
    assert next_rung(SweepPlan(), 27, 0, 0) is None


def test_of_three_at_a_rung_the_best_goes_on():
    members = [resting(0, 1, e1=3.0), resting(1, 1, e1=1.0), resting(2, 1, e1=2.0)]
    assert promotable(ASHA, 27, members) == [1]
    assert promotable(ASHA, 27, members[:2]) == []  # of two nobody knows it yet


def test_a_loser_goes_on_when_it_turns_out_to_be_among_the_best():
    """Nothing of it was lost: it rests at its rung until enough others are known."""
    first = [resting(0, 3, e1=1.0, e3=0.9), resting(1, 1, e1=2.0), resting(2, 1, e1=3.0)]
    assert promotable(ASHA, 27, first) == []
    more = [*first, *(resting(number, 1, e1=4.0 + number) for number in range(3, 6))]
    assert promotable(ASHA, 27, more) == [1]


def test_the_highest_rung_comes_first():
    low = [resting(number, 1, e1=10.0 + number) for number in range(3)]
    high = [resting(number, 3, e1=1.0, e3=float(number)) for number in range(3, 6)]
    assert promotable(ASHA, 27, [*low, *high])[0] == 3


def test_a_job_that_runs_or_is_over_is_never_told_to_go_on():
    others = [resting(1, 1, e1=2.0), resting(2, 1, e1=3.0)]
    running = MemberState(0, epochs=1, is_active=True, values={1: 1.0})
    assert promotable(ASHA, 27, [running, *others]) == []


def test_hyperband_spreads_jobs_over_its_brackets():
    plan = SweepPlan(stopper="hyperband", eta=3)
    assert num_brackets(plan, 27) == 4
    counts = [0] * 4
    for number in range(40):
        counts[bracket_of(number, plan, 27)] += 1
    assert counts == [27, 9, 3, 1]
    assert rungs(plan, 27, 2) == [9, 27]


@given(st.integers(1, 200), st.integers(2, 5), st.integers(1, 5), st.randoms(use_true_random=False))
def test_at_every_rung_at_most_one_in_eta_goes_on(num_jobs: int, eta: int, first: int, chance: random.Random):
    plan = SweepPlan(stopper="asha", eta=eta, first_epochs=first, jobs=num_jobs)
    members = [resting(number, first, **{f"e{first}": chance.random()}) for number in range(num_jobs)]
    chosen = promotable(plan, first * eta**2, members)
    assert len(chosen) == num_jobs // eta
    best = sorted(range(num_jobs), key=lambda number: (members[number].values[first], number))
    assert chosen == best[: num_jobs // eta]


@pytest.mark.parametrize("seed", range(3))
def test_halving_finds_as_good_a_job_for_less_than_half_of_the_epochs(seed):
    """Curves that cross: the value at the end is known only by training on. One job at a time, as a slot would."""
    chance = random.Random(seed)
    finals = [chance.random() for _ in range(81)]
    noise = [chance.gauss(0, 0.3) for _ in range(81)]
    value = lambda number, epoch: finals[number] + noise[number] / epoch + 1 / epoch  # noqa: E731
    epochs, states, trained = 27, {}, 0
    for number in range(81):
        states[number] = resting(number, 1, e1=value(number, 1))
        trained += 1
        while chosen := promotable(ASHA, epochs, list(states.values())):
            best = chosen[0]
            rung = next_rung(ASHA, epochs, 0, states[best].epochs) or epochs
            trained += rung - states[best].epochs
            values = dict(states[best].values) | {rung: value(best, rung)}
            states[best] = MemberState(best, epochs=rung, is_resting=rung < epochs, values=values)
    found = min(value(number, epochs) for number, state in states.items() if epochs in state.values)
    assert trained <= 0.45 * 81 * epochs
    assert found <= sorted(value(number, epochs) for number in range(81))[3]
