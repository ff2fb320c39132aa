"""What a recipe shows of its newest epoch: small, kept once, gone when it was rolled back, never in the digest."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from heimdall.engine import recipe_job
from heimdall.engine.loop import ClosedEpoch
from heimdall.trainer.protocol import EpochDone
from tests.pages.conftest import html
from tests.recipes.in_process import train
from training import queries, services
from training.models import Artifact

TINY = {
    "epochs": 2, "batch_size": 64, "samples": 300, "width": 8, "heads": 2, "layers": 1, "refinements": 1,
    "dropout": 0.0, "validation_split": 0.3, "checkpoint_every_minutes": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train("localization", TINY, tmp_path_factory.mktemp("run"))


def test_a_localization_shows_where_it_places_its_validation_samples(run):
    shown = [message.artifact for message in run.of("epoch")]
    last, values = shown[-1], run.epochs[-1]
    samples = np.array(last["samples"])
    assert samples.shape == (last["count"], 10)
    assert 60 < last["count"] < 120
    errors = 1000 * np.hypot(*(samples[:, 2:4] - samples[:, :2]).T)
    assert np.median(errors) == pytest.approx(values["val_p50"], rel=0.01)
    at = dict(zip(last["percentiles"], last["errors_m"], strict=True))
    assert at[68] == pytest.approx(values["val_p68"], rel=0.001)
    for share, name in ((0.68, "coverage_68"), (0.95, "coverage_95")):
        assert dict(map(tuple, last["calibration"]))[share] == pytest.approx(values[f"val_{name}"], abs=1e-4)
        assert dict(map(tuple, last["stated"]))[share] == pytest.approx(
            values[f"val_stated_{name}"], abs=1e-4
        )
    kept = run.parts["recipe_calibration"]
    assert last["ellipses"] == [[share, dict(kept["radii_squared"])[share]] for share in (0.68, 0.95)]
    assert last["calibrated_on"] == kept["samples"] == last["count"]
    assert (samples[:, 4] > 0).all()
    assert (samples[:, 4] * samples[:, 6] > samples[:, 5] ** 2).all()
    assert (np.array(shown[0]["samples"])[:, :2] == samples[:, :2]).all()  # the same samples in each epoch
    assert len(json.dumps(last)) < 32 * 1024


def test_an_artifact_that_is_too_large_is_left_out_and_the_log_says_so(capfd):
    closed = ClosedEpoch(
        3, {"val_loss": 1.0}, 1.0, True, {"kind": "x", "text": "x" * recipe_job.MOST_ARTIFACT_BYTES}
    )
    assert recipe_job._shown(closed) is None
    assert "The artifact of epoch 3 is left out" in capfd.readouterr().err
    assert recipe_job._shown(ClosedEpoch(3, {}, 1.0, True)) is None


@dataclass
class Training:
    """A job that runs, told what a trainer would tell."""

    attempt: object

    def close(self, epoch: int) -> None:
        rows = [{"step": epoch * 10, "epoch": epoch, "loss": 1.0}]
        message = EpochDone(epoch * 10, epoch, {"val_loss": 1.0}, artifact={"kind": "x", "n": epoch})
        services.beat(self.attempt, services.Report(steps=rows, epochs=[message]))


@pytest.fixture
def training(alice, node):
    services.submit(by=alice, job_name="shows", recipe="tiny", config={})
    return Training(services.claim(node, slot=0, pid=1))


@pytest.mark.django_db
def test_the_newest_is_kept_and_shown(training, api, browse, alice):
    job = training.attempt.job
    address = f"/v1/training/jobs/{job.pk}/artifact"
    assert api.get(address).json() == {"epoch": 0, "step": 0, "content": None}
    training.close(1)
    training.close(2)
    training.close(2)
    assert Artifact.objects.count() == 1
    wanted = {"epoch": 2, "step": 20, "content": {"kind": "x", "n": 2}}
    assert api.get(address).json() == wanted
    assert browse(alice).get(f"/jobs/{job.pk}/artifact/").json() == wanted
    assert f'data-artifact="/jobs/{job.pk}/artifact/"' in html(browse(alice).get(f"/jobs/{job.pk}/"))


@pytest.mark.django_db
def test_whoever_cannot_see_the_job_cannot_see_it(training, client_of, browse, mallory):
    job = training.attempt.job
    assert client_of(mallory).get(f"/v1/training/jobs/{job.pk}/artifact").status_code == 404
    assert browse(mallory).get(f"/jobs/{job.pk}/artifact/").status_code == 404


@pytest.mark.django_db
def test_it_goes_with_the_epoch_that_was_rolled_back_or_begun_again(training, alice):
    training.close(1)
    services.crash(training.attempt, exit_code=-9)  # no checkpoint: back to step 0
    job = training.attempt.job
    assert queries.artifact_dict(job)["content"] is None
    again = Training(services.claim(training.attempt.node, slot=0, pid=1))
    again.close(1)
    services.fail(again.attempt, code="recipe_error", message="no")
    assert queries.artifact_dict(job)["content"] == {"kind": "x", "n": 1}
    services.restart(job, by=alice)
    assert queries.artifact_dict(job)["content"] is None


@pytest.mark.django_db
def test_numbers_that_json_does_not_know_become_null(training):
    message = EpochDone(10, 1, {}, artifact={"kind": "x", "a": ["nan", float("inf"), 1.0]})
    services.beat(
        training.attempt, services.Report(steps=[{"step": 10, "epoch": 1, "loss": 1.0}], epochs=[message])
    )
    assert Artifact.objects.get().content == {"kind": "x", "a": [None, None, 1.0]}
