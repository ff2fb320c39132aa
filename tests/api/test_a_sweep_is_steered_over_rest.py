"""Pause, resume and cancel a sweep: each does what its address says, and a refusal is a 409."""

import pytest

from training import services
from training.models import Sweep

pytestmark = pytest.mark.django_db


@pytest.fixture
def sweep(alice) -> Sweep:
    return services.submit_sweep(
        by=alice,
        name="rates",
        recipe="tiny",
        config={"epochs": 2},
        space={"learning_rate": [0.1, 0.2]},
        plan={"suggester": "grid", "stopper": "asha"},
    )


@pytest.fixture
def ask(api, sweep):
    def post(verb, body=None):
        return api.post(f"/v1/training/sweeps/{sweep.pk}/{verb}", body, format="json")

    return post


def test_each_verb_moves_the_sweep_to_its_own_state(ask, sweep):
    for verb, state in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        answer = ask(verb)
        assert (answer.status_code, answer.json()["state"]) == (200, state)
        sweep.refresh_from_db()
        assert sweep.state == state


def test_what_its_state_does_not_allow_is_refused_and_nothing_moves(ask, sweep):
    services.cancel_sweep(sweep, by=sweep.owner)
    for verb in ("pause", "resume", "cancel"):
        assert ask(verb).status_code == 409
    sweep.refresh_from_db()
    assert sweep.state == "cancelled"


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_an_unknown_field_is_named_and_nothing_moves(ask, sweep, verb):
    answer = ask(verb, {"at": "step"})
    assert answer.status_code == 400
    assert "at" in answer.json()["error"]["fields"]
    sweep.refresh_from_db()
    assert sweep.state == "running"
