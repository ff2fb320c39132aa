"""The pages and the API of a dataset: what is in it, and who may see it."""

import json
from pathlib import Path

import numpy as np
import pytest
from django.test import Client
from safetensors.numpy import load

from tests.pages.conftest import html, words
from training import queries
from training.models import Dataset, Shard, TrainingJob, dataset_storage

pytestmark = pytest.mark.django_db
API = "/v1/training/datasets"


def arrays_of(shard: Shard) -> dict[str, np.ndarray]:
    return load(Path(dataset_storage().path(shard.file.name)).read_bytes())


def test_the_page_tells_what_is_in_it(browse, alice, dataset):
    client = browse(alice)
    text = words(html(client.get("/datasets/")))
    assert "north" in text
    assert "500" in text
    text = words(html(client.get("/datasets/north/")))
    assert "complete 500 samples in 3 files" in text
    assert "Too diluted" in text
    assert dataset.fingerprint[:16] in text
    assert dataset.shards.first().sha256[:12] in text
    link = html(client.get("/datasets/north/"))
    assert "recipe=localization&amp;config.dataset=north&amp;config.samples=500" in link
    form = html(client.get("/jobs/new/?recipe=localization&config.dataset=north&config.samples=500"))
    assert 'value="north"' in form
    assert 'name="config.samples" value="500"' in form


def test_the_histograms_count_every_sample_and_examples_are_the_first(browse, alice, dataset):
    summary = browse(alice).get("/datasets/north/summary/").json()
    found = {name: sum(histogram["counts"]) for name, histogram in summary["histograms"].items()}
    assert found["dilution"] == found["bound_m"] == found["heard_by"] == 500
    heard = [number * count for number, count in enumerate(summary["histograms"]["heard_by"]["counts"])]
    assert found["snr_db"] == found["distance_km"] == sum(heard)
    assert (summary["kind"], summary["samples"], summary["shards"]) == ("rf_dataset", 500, 3)
    assert [row[0] for row in summary["receivers"]][:2] == ["Aquila di Giaveno", "Montanaro"]
    arrays = arrays_of(dataset.shards.first())
    examples = np.array(summary["examples"])
    assert len(examples) == 200
    assert np.allclose(examples[:, :2], arrays["position_km"], atol=0.001)
    assert (examples[:, 2] == arrays["detected"].sum(axis=1)).all()


def test_a_shards_summary_is_small_and_the_same_whenever_it_is_made(make_dataset):
    one, other = make_dataset("one"), make_dataset("other")
    entries = [list(dataset.shards.values_list("entry", flat=True)) for dataset in (one, other)]
    assert entries[0] == entries[1]
    assert max(len(json.dumps(entry)) for entry in entries[0][1:]) < 2000
    assert one.fingerprint == other.fingerprint
    assert make_dataset("third", seed=6).fingerprint != one.fingerprint


def test_histograms_with_other_edges_are_not_mixed_in(dataset):
    shard = dataset.shards.last()
    shard.entry["histograms"]["snr_db"]["high"] = 1.0
    shard.save()
    counts = queries.dataset_summary(dataset)["histograms"]
    assert sum(counts["dilution"]["counts"]) == 500
    assert sum(counts["snr_db"]["counts"]) < sum(counts["distance_km"]["counts"])


def test_the_api_shows_datasets_and_samples_as_they_lie_in_the_files(api, dataset):
    listed = api.get(API).json()
    assert (listed["count"], listed["results"][0]["name"]) == (1, "north")
    shown = api.get(f"{API}/north").json()
    assert shown == listed["results"][0]
    assert (shown["state"], shown["samples"], shown["wanted_samples"]) == ("complete", 500, 500)
    page = api.get(f"{API}/north/samples?start=198&limit=4").json()
    assert page["count"] == 500
    assert [row["index"] for row in page["results"]] == [198, 199, 200, 201]
    assert "start=202" in page["next"]
    for row in page["results"]:
        shard = dataset.shards.order_by("id")[row["index"] // 200]
        arrays = arrays_of(shard)
        assert set(row) == {"index", *arrays}
        for name, values in arrays.items():
            wanted = values[row["index"] % 200].astype(float)
            assert np.allclose(np.array(row[name], dtype=float), wanted, atol=1e-6), name
    last = api.get(f"{API}/north/samples?start=499").json()
    assert (len(last["results"]), last["next"]) == (1, None)
    assert api.get(f"{API}/north/samples?start=500").json()["results"] == []
    assert api.get(f"{API}/north/samples?limit=1001").status_code == 400


def test_files_of_another_kind_are_no_samples_and_a_missing_one_says_so(api, dataset):
    shard = dataset.shards.first()
    path = Path(dataset_storage().path(shard.file.name))
    content = path.read_bytes()
    path.write_bytes(b"\xff" * 100)
    assert api.get(f"{API}/north/samples?limit=5").json()["results"] == []
    path.write_bytes(content)
    dataset_storage().delete(shard.file.name)
    answer = api.get(f"{API}/north/samples")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "bad_dataset")


def test_a_job_names_its_dataset_and_the_dataset_its_jobs(api, browse, alice, dataset):
    job = TrainingJob.objects.get()
    assert api.get(f"/v1/training/jobs/{job.pk}").json()["dataset"] == "north"
    assert 'href="/datasets/north/"' in html(browse(alice).get(f"/jobs/{job.pk}/"))
    assert api.get(f"{API}/north").json()["made_by"] == [job.pk]


ADDRESSES = [f"/datasets/north/{page}" for page in ("", "summary/", "extend/", "delete/")]


@pytest.mark.parametrize("path", ADDRESSES)
def test_what_mallory_cannot_see_does_not_exist_for_her(browse, mallory, dataset, path):
    assert browse(mallory).get(path).status_code == 404
    assert Client().get(path)["Location"].startswith("/login/")


def test_lists_and_the_api_hide_it_too(browse, client_of, mallory, viewer, dataset):
    assert "north" not in html(browse(mallory).get("/datasets/"))
    stranger = client_of(mallory)
    assert stranger.get(API).json()["count"] == 0
    for path in ("", "/samples"):
        assert stranger.get(f"{API}/north{path}").status_code == 404
    assert stranger.delete(f"{API}/north").status_code == 404
    assert Client().get(API).status_code == 401
    assert browse(viewer).get("/datasets/north/").status_code == 200


def test_pages_of_datasets_hold_no_script_of_their_own(browse, alice, dataset):
    for path in ["/datasets/", *ADDRESSES[:1], *ADDRESSES[2:]]:
        scripts = html(browse(alice).get(path)).split("<script")[1:]
        assert scripts
        for script in scripts:
            assert 'src="/static/' in script.split(">")[0]


def test_the_list_without_datasets_says_how_to_make_one(browse, alice):
    text = words(html(browse(alice).get("/datasets/")))
    assert "No datasets yet" in text
    assert "RF localization dataset" in text
    assert not Dataset.objects.exists()


def test_the_admin_shows_datasets_read_only(client, admin_user, dataset):
    client.force_login(admin_user)
    base = f"/admin/training/dataset/{dataset.pk}"
    assert client.get(f"{base}/change/").status_code == 200
    assert client.post(f"{base}/change/", {"name": "other"}).status_code == 403
    assert client.post(f"{base}/delete/", {"post": "yes"}).status_code == 403
    assert Dataset.objects.get().name == "north"
