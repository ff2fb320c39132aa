"""Which panels of curves a person sees is kept for that person; comparing takes up to fifty jobs and finds more."""

from __future__ import annotations

import json

import pytest

from tests.pages.conftest import html, words
from training import services
from training.models import Metric, PageLayout, TrainingJob

pytestmark = pytest.mark.django_db


def keep(client, page: str, panels) -> int:
    return client.post(
        f"/settings/layouts/{page}/", json.dumps({"panels": panels}), content_type="application/json"
    ).status_code


def test_a_choice_is_kept_for_one_person_and_one_recipe_and_taken_back(browse, make_job, alice, bob):
    job, client = make_job(), browse(alice)
    page = f"/jobs/{job.pk}/"
    assert "data-layout=" not in html(client.get(page))
    assert keep(client, "job:tiny", ["loss,val_loss", "learning_rate"]) == 200
    assert 'data-layout="[&quot;loss,val_loss&quot;, &quot;learning_rate&quot;]"' in html(client.get(page))
    assert "data-layout=" not in html(browse(bob).get(page))
    assert services.layout_of(alice, "job:other") is None
    assert keep(client, "job:tiny", None) == 200
    assert not PageLayout.objects.exists()


@pytest.mark.parametrize(
    "panels", ["loss", [3], [""], ["x" * 401], ["a"] * 1 + [f"m{n}" for n in range(60)], ["a\x00"]]
)
def test_what_is_no_list_of_names_is_refused(browse, alice, panels):
    assert keep(browse(alice), "job:tiny", panels) == 400
    assert not PageLayout.objects.exists()


def test_a_page_that_is_none_and_what_is_no_json_are_refused(browse, alice):
    client = browse(alice)
    assert keep(client, "Job tiny", ["loss"]) == 400
    assert client.post("/settings/layouts/compare/", "{", content_type="application/json").status_code == 400
    assert client.get("/settings/layouts/compare/").status_code == 405


def test_one_person_keeps_a_bounded_number_of_pages(browse, alice, monkeypatch):
    monkeypatch.setattr("training.services.layouts.MOST_PAGES", 3)
    for number in range(5):
        services.keep_layout(f"job:r{number}", ["loss"], by=alice)
    assert list(PageLayout.objects.values_list("page", flat=True)) == ["job:r2", "job:r3", "job:r4"]


def test_fifty_jobs_are_compared_and_fifty_one_are_not(browse, make_job, alice):
    numbers = [make_job(job_name=f"job {number}").pk for number in range(51)]
    client = browse(alice)
    answer = client.get(f"/compare/?jobs={','.join(map(str, numbers[:50]))}")
    assert answer.status_code == 200
    assert len(answer.context["drawn"]) == 50
    assert "at most 50" in words(html(client.get(f"/compare/?jobs={','.join(map(str, numbers))}")))


def test_a_job_is_found_by_its_name_added_and_dropped(browse, make_job, alice, bob):
    first, second, third = (make_job(job_name=name) for name in ("north", "south", "south again"))
    hidden = make_job(job_name="south of nobody", owner=bob, team=None)
    client = browse(alice)
    answer = client.get(f"/compare/?jobs={first.pk},{second.pk}&find=south")
    assert [found["id"] for found in answer.context["found"]] == [third.pk]
    assert f"?jobs={first.pk},{second.pk},{third.pk}" in html(answer)
    assert f'href="?jobs={second.pk}"' in html(answer)  # without the first
    assert hidden.job_name not in html(answer)


def test_a_curve_marks_the_best_epoch_and_the_forks_that_one_may_see(browse, make_job, alice, bob):
    job = make_job(status="completed", step=4, epoch=2)
    for step in range(1, 5):
        closed = {"val_loss": 1.0} if step in (2, 4) else None
        Metric.objects.create(
            job=job, step=step, epoch=(step + 1) // 2, attempt=1, values={"loss": 1.0}, epoch_values=closed
        )
    TrainingJob.objects.filter(pk=job.pk).update(best_epoch=1)
    fork = make_job(parent=job, origin={"step": 2, "carries": "training"})
    make_job(parent=job, owner=bob, team=None, origin={"step": 3, "carries": "training"})
    found = browse(alice).get(f"/v1/training/jobs/{job.pk}/curve").json()
    assert found["best_step"] == 2
    assert found["forks"] == [{"job": fork.pk, "step": 2}]


def test_seldom_settings_are_folded_and_changes_of_them_are_counted(browse, make_job, alice):
    client = browse(alice)
    text = html(client.get("/jobs/new/?recipe=tiny"))
    assert text.count('<details class="rest"') >= 4
    assert "changed</span>" not in text
    changed = make_job(config={"weight_decay": 0.5, "optimizer": "sgd"})
    copied = html(client.get(f"/jobs/new/?from={changed.pk}"))
    assert "2 changed" in copied
    assert f"As my last one, #{changed.pk}" in html(client.get("/jobs/new/?recipe=tiny"))
