"""A loss that is NaN or infinite is one event from its first step on, and stands on the job's page."""

from __future__ import annotations

import pytest

from heimdall.trainer.protocol import EpochDone
from training import services
from training.models import Event

pytestmark = pytest.mark.django_db


@pytest.fixture
def attempt(alice, node):
    services.submit(by=alice, job_name="diverges", recipe="tiny", config={})
    return services.claim(node, slot=0, pid=1)


def report(attempt, *losses: object, first: int = 1, **epoch_values: object) -> None:
    rows = [
        {"step": step, "epoch": 1, "loss": loss, "grad_norm": "inf"}
        for step, loss in enumerate(losses, first)
    ]
    epochs = [EpochDone(first + len(losses) - 1, 1, epoch_values)] if epoch_values else []
    services.beat(attempt, services.Report(steps=rows, epochs=epochs))


def said() -> list[str]:
    return list(
        Event.objects.filter(kind="loss_not_finite").order_by("seq").values_list("message", flat=True)
    )


def trouble_on_page(client, job_id: int) -> str:
    page = client.get(f"/jobs/{job_id}/").content.decode()
    return page.partition('id="trouble"')[2].partition("</div>")[0]


def test_once_from_its_first_step_on(attempt, alice, client):
    client.force_login(alice)
    report(attempt, 1.0, 0.5)
    assert said() == []  # another value of the step may be what it is
    report(attempt, 0.4, "nan", "nan", first=3)
    report(attempt, "nan", "inf", first=6)
    services.crash(attempt, exit_code=-9)
    (sentence,) = said()
    assert sentence.startswith("The loss is not a number since step 4 (loss = nan). The training goes on")
    assert "since step 4" in trouble_on_page(client, attempt.job_id)


def test_again_where_the_job_began_anew(attempt, alice, node, client):
    report(attempt, "inf")
    services.fail(attempt, code="recipe_error", message="diverged")
    services.restart(attempt.job, by=alice)
    again = services.claim(node, slot=0, pid=1)
    client.force_login(alice)
    assert "since step" not in trouble_on_page(client, again.job_id)
    report(again, 1.0, "-inf")
    assert [sentence.partition(" (")[0] for sentence in said()] == [
        "The loss is infinite since step 1",
        "The loss is infinite since step 2",
    ]


def test_of_a_validation_too(attempt):
    report(attempt, 1.0, 1.0, train_loss=1.0, val_loss="nan")
    (sentence,) = said()
    assert sentence.startswith("The loss is not a number since step 2 (val_loss = nan).")
