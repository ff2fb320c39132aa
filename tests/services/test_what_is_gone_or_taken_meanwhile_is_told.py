"""What was deleted, taken or changed while somebody asked: each ends with a sentence, and nothing half done."""

import pytest

from heimdall.errors import InvalidInput
from tests.conftest import build_job
from training import services
from training.errors import NotFound, TransitionRefused
from training.models import Dataset, TrainingJob, Watch
from training.services import extending

pytestmark = pytest.mark.django_db
SHARDS = {"samples": 30, "samples_per_shard": 10}


@pytest.fixture
def gone(alice) -> TrainingJob:
    """A job as somebody read it who then took some time."""
    job = build_job(owner=alice, status="completed")
    TrainingJob.objects.filter(pk=job.pk).delete()
    return job


def test_a_job_that_is_gone_is_not_cloned(alice, gone):
    with pytest.raises(NotFound, match=f"There is no job {gone.pk}"):
        services.clone(gone, by=alice)
    assert not TrainingJob.objects.exists()


def test_a_job_that_is_gone_is_not_watched(alice, gone):
    with pytest.raises(NotFound, match=f"There is no job {gone.pk}"):
        services.watch(gone, by=alice)
    assert not Watch.objects.exists()


def test_a_view_that_is_gone_is_not_changed(alice):
    view = services.save_view(by=alice, name="mine", query="")
    services.delete_view(view, by=alice)
    view.owner = alice
    with pytest.raises(NotFound, match="There is no saved view"):
        services.change_view(view, by=alice, name="yours")


def test_a_change_of_a_view_leaves_alone_what_another_one_changed(alice):
    seen = services.save_view(by=alice, name="mine", query="status=queued")
    services.change_view(seen, by=alice, query="status=failed")
    stale = type(seen).objects.get(pk=seen.pk)
    stale.query = "status=queued"
    changed = services.change_view(stale, by=alice, name="yours")
    assert (changed.name, changed.query) == ("yours", "status=failed")


def test_a_dataset_that_is_gone_is_not_extended(alice, monkeypatch):
    dataset = services.submit(by=alice, job_name="north", recipe="rf_dataset", config={}).job.dataset

    def delete(*_, **__):
        TrainingJob.objects.update(dataset=None)
        Dataset.objects.all().delete()

    monkeypatch.setattr(extending, "require_dataset", delete)  # the last look before the transaction begins
    with pytest.raises(NotFound, match="There is no dataset north"):
        services.extend_dataset(dataset, by=alice, samples=100)


@pytest.mark.parametrize("verb", ["resume", "restart"])
def test_data_are_not_made_for_a_dataset_that_was_deleted(alice, verb):
    job = services.submit(by=alice, job_name="north", recipe="shards", config=SHARDS).job
    services.cancel(job, by=alice)
    services.delete_dataset(job.dataset, by=alice)
    job.refresh_from_db()
    with pytest.raises(
        TransitionRefused, match="was deleted; clone the job to make the data anew"
    ) as refused:
        services.VERBS[verb](job, by=alice)
    assert refused.value.verbs == ("delete",)
    assert services.clone(job, by=alice).job.dataset.name == "north-copy"


def test_an_extension_follows_on_a_dataset_that_begins_late(alice):
    late = {"first_sample": 1_000, "samples": 200}
    job = services.submit(by=alice, job_name="late", recipe="rf_dataset", config=late).job
    TrainingJob.objects.filter(pk=job.pk).update(status="completed")
    Dataset.objects.update(samples=200)
    more = services.extend_dataset(job.dataset, by=alice, samples=100).job
    assert more.config["first_sample"] == 1_200


def test_whoever_left_the_team_of_a_dataset_still_extends_it(alice, team):
    job = services.submit(by=alice, job_name="north", recipe="rf_dataset", config={}, team=team).job
    TrainingJob.objects.filter(pk=job.pk).update(status="completed")
    alice.groups.clear()
    alice = type(alice).objects.get(pk=alice.pk)
    assert services.extend_dataset(job.dataset, by=alice, samples=100).job.team is None
    with pytest.raises(InvalidInput, match="You are not in this team"):
        services.submit(by=alice, job_name="other", recipe="tiny", config={}, team=team)


def test_an_inactive_administrator_sees_no_dataset(alice, admin_user):
    services.submit(by=alice, job_name="north", recipe="shards", config=SHARDS)
    assert services.visible_datasets(admin_user).count() == 1
    admin_user.is_active = False
    assert not services.visible_datasets(admin_user).exists()


def test_an_address_that_does_not_fit_its_column_is_refused(alice):
    with pytest.raises(InvalidInput, match="target: An address has at most 500 characters"):
        services.subscribe(by=alice, via="webhook", target=f"https://example.org/{'x' * 500}")


def test_a_sentence_of_an_event_has_an_end(alice, node):
    services.submit(by=alice, job_name="loud", recipe="tiny", config={})
    attempt = services.claim(node, slot=0, pid=1)
    services.fail(attempt, code="recipe_error", message="x" * 1_000_000)
    job = TrainingJob.objects.get(pk=attempt.job_id)
    assert len(job.events.last().message) < 1_100
    assert len(job.error_message) < 20_100
