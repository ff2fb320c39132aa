"""The exhaustive search in its small size; `python -m tests.lifecycle.search` does the large one."""

import pytest

from tests.lifecycle.search import GUARDS, Bounds, State, search
from training.lifecycle import (
    RULES,
    STATES,
    TRAINED_HERE,
    Answer,
    Facts,
    JobType,
    Status,
    Stop,
    Verb,
    offered,
    refusal,
)


def test_no_reachable_state_breaks_a_rule():
    states, violation = search(Bounds(attempts=2, steps=1))
    assert violation is None
    assert len(states) > 30_000
    assert {state.status for state in states} == set(Status)
    assert "pending" in State._fields


@pytest.mark.parametrize("guard", GUARDS)
def test_a_guard_that_is_taken_away_is_noticed(guard):
    assert search(Bounds(attempts=2, steps=1, without=frozenset({guard})))[1]


def test_every_guard_of_the_table_is_searched():
    assert {guard.name for rule in RULES.values() for guard in rule.guards} <= set(GUARDS)


def test_the_table_speaks_of_known_states_and_leads_to_known_states():
    assert {(status, stop) for _, status, stop in RULES} == set(STATES)
    targets = {
        (rule.to_status, rule.to_stop) for rule in RULES.values() if isinstance(rule.to_status, Status)
    }
    assert targets == set(STATES)


def test_a_refusal_says_from_where_the_verb_is_possible():
    sentence = refusal(Verb.DISCARD, Status.RUNNING, Stop.NONE, Facts())
    assert sentence == "Cannot discard a running job; discard is possible from: paused."


@pytest.mark.parametrize("state", STATES)
def test_synthetic_data_cannot_be_paused_in_any_state(state):
    facts = Facts(job_type=JobType.SYNTHETIC_DATA)
    assert refusal(Verb.PAUSE, *state, facts) == "Cannot pause synthetic data generation jobs."
    assert Verb.PAUSE not in offered(*state, facts)


OFFERED_ELSEWHERE = {  # every state that such a job may be in
    (Status.RUNNING, Stop.NONE): (Verb.CANCEL,),
    (Status.COMPLETED, Stop.NONE): (Verb.DELETE,),
    (Status.FAILED, Stop.NONE): (Verb.DELETE,),
    (Status.CANCELLED, Stop.NONE): (Verb.DELETE,),
}


@pytest.mark.parametrize("state", STATES)
def test_a_job_that_is_trained_elsewhere_is_never_stopped_or_started_here(state):
    facts = Facts(job_type=JobType.EXTERNAL)
    for verb in (Verb.PAUSE, Verb.RESUME, Verb.RESTART, Verb.DISCARD):
        assert refusal(verb, *state, facts) == TRAINED_HERE.refusal
    by_workers = {Verb.CLAIM, Verb.PREEMPT, Verb.CRASH, Verb.REAP}
    assert not [verb for verb in by_workers if (verb, *state) in RULES and not refusal(verb, *state, facts)]
    if state in OFFERED_ELSEWHERE:
        assert offered(*state, facts) == OFFERED_ELSEWHERE[state]


def test_buttons_are_the_verbs_that_change_something():
    paused = offered(Status.PAUSED, Stop.NONE, Facts(has_checkpoint=True, ever_stored=True))
    assert paused == (Verb.RESUME, Verb.DISCARD)
    assert RULES[Verb.PAUSE, Status.PAUSED, Stop.NONE].answer is Answer.ALREADY
    assert Verb.RESUME not in offered(Status.FAILED, Stop.NONE, Facts(ever_stored=True))
