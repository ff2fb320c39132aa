"""Extending and deleting through the doors, and the refusals."""

import pytest

from tests.datasets.conftest import record
from tests.pages.conftest import html, words
from training import services
from training.errors import TransitionRefused
from training.models import Dataset, TrainingJob, dataset_storage

pytestmark = pytest.mark.django_db
API = "/v1/training"


def test_an_extension_is_a_new_job_and_makes_what_would_have_come_next(
    browse,
    alice,
    dataset,
    make_dataset,
    node,
    tmp_path,
):
    sent = browse(alice).post("/datasets/north/extend/", {"samples": "300"})
    job = TrainingJob.objects.latest("id")
    assert sent["Location"] == f"/jobs/{job.pk}/"
    assert (job.config["first_sample"], job.config["samples"], job.dataset) == (500, 300, dataset)
    assert job.parent == dataset.jobs.earliest("id")
    attempt = services.claim(node, slot=0, pid=1)
    record(attempt, tmp_path / "more")
    services.complete(attempt, None)
    whole = make_dataset("whole", samples=800, samples_per_shard=100)
    grown = make_dataset("grown", samples=500, samples_per_shard=100)
    services.extend_dataset(grown, by=alice, samples=300)
    record(services.claim(node, slot=0, pid=1), tmp_path / "grown-more")
    assert digests(grown) == digests(whole)
    assert sum(dataset.shards.values_list("samples", flat=True)) == 800


def digests(dataset: Dataset) -> list[str]:
    return list(dataset.shards.order_by("id").values_list("sha256", flat=True))


def test_rest_extends_a_job_and_answers_with_the_new_one(api, dataset):
    job = dataset.jobs.get()
    answer = api.post(f"{API}/jobs/{job.pk}/extend", {"samples": 200}, format="json")
    assert answer.status_code == 201
    assert (answer.json()["parent"], answer.json()["dataset"]) == (job.pk, "north")
    assert answer["Location"].endswith(f"/jobs/{answer.json()['id']}")
    again = api.post(f"{API}/jobs/{job.pk}/extend", {"samples": 200}, format="json")
    assert (again.status_code, "is not finished" in again.json()["error"]["message"]) == (409, True)
    for bad in ({}, {"samples": 0}, {"samples": "many"}, {"samples": 200, "seed": 1}):
        assert api.post(f"{API}/jobs/{job.pk}/extend", bad, format="json").status_code == 400


def test_too_few_more_is_refused_beside_the_field(browse, alice, dataset):
    answer = browse(alice).post("/datasets/north/extend/", {"samples": "99"})
    assert answer.status_code == 400
    assert "samples must be a whole number from 100 to 5000000, not 99." in words(html(answer))
    assert TrainingJob.objects.count() == 1


def test_only_a_job_that_made_a_dataset_is_extended_by_samples(api, make_job):
    answer = api.post(f"{API}/jobs/{make_job().pk}/extend", {"samples": 200}, format="json")
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["samples"])


def test_an_extension_goes_on_after_the_job_that_began_it_was_deleted(alice, dataset):
    services.delete(dataset.jobs.get(), by=alice)
    job = services.extend_dataset(dataset, by=alice, samples=100).job
    assert (job.config["first_sample"], job.config["seed"], job.parent) == (500, 5, None)


def test_bob_may_look_but_not_extend_or_delete(browse, client_of, bob, dataset):
    page = html(browse(bob).get("/datasets/north/"))
    assert "/extend/" not in page
    assert "/delete/" not in page
    for path in ("extend", "delete"):
        assert browse(bob).post(f"/datasets/north/{path}/", {"samples": "200"}).status_code == 403
    client = client_of(bob)
    assert client.delete(f"{API}/datasets/north").status_code == 403
    job = dataset.jobs.get()
    assert client.post(f"{API}/jobs/{job.pk}/extend", {"samples": 200}, format="json").status_code == 403
    assert dataset.jobs.count() == 1


def test_a_dataset_in_use_stays_and_one_that_is_not_goes_with_its_files(
    browse,
    alice,
    dataset,
    django_capture_on_commit_callbacks,
):
    client = browse(alice)
    reader = services.submit(
        by=alice, job_name="reads", recipe="localization", config={"dataset": "north", "samples": 500}
    ).job
    answer = client.post("/datasets/north/delete/", follow=True)
    assert f"Dataset north is needed by job {reader.pk}, which is queued." in words(html(answer))
    services.cancel(reader, by=alice)
    names = list(dataset.shards.values_list("file", flat=True))
    assert "Delete for good" in html(client.get("/datasets/north/delete/"))
    with django_capture_on_commit_callbacks(execute=True):
        answer = client.post("/datasets/north/delete/", follow=True)
    assert "Dataset north and its files are deleted." in words(html(answer))
    assert not Dataset.objects.exists()
    assert not any(dataset_storage().exists(name) for name in names)


def test_rest_deletes_and_refuses_with_the_reason(api, make_dataset):
    made = make_dataset(finish=False)
    answer = api.delete(f"{API}/datasets/north")
    assert answer.status_code == 409
    assert "is needed by job" in answer.json()["error"]["message"]
    TrainingJob.objects.filter(dataset=made).delete()
    assert api.delete(f"{API}/datasets/north").status_code == 204
    assert api.delete(f"{API}/datasets/north").status_code == 404


def test_state_tells_making_incomplete_and_complete(api, make_dataset, alice):
    made = make_dataset(finish=False, shards=1)
    assert shown(api)["state"] == "making"
    attempt = made.jobs.get().attempts.get()
    services.cancel(attempt.job, by=alice)
    services.land(attempt)
    assert (shown(api)["state"], shown(api)["samples"], shown(api)["wanted_samples"]) == (
        "incomplete",
        200,
        500,
    )


def shown(api) -> dict:
    return api.get(f"{API}/datasets/north").json()


def test_pausing_is_refused_with_its_sentence_queued_or_running(api, alice, make_dataset):
    sentence = "Cannot pause synthetic data generation jobs."
    running = make_dataset(finish=False, shards=1).jobs.get()
    queued = services.submit(by=alice, job_name="later", recipe="rf_dataset", config={}).job
    for job in (running, queued):
        assert job.total_epochs == 0
        answer = api.post(f"{API}/jobs/{job.pk}/pause")
        assert (answer.status_code, answer.json()["error"]["message"]) == (409, sentence)
        with pytest.raises(TransitionRefused, match=sentence):
            services.pause(job, by=alice)
