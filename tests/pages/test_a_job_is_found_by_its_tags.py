"""Tags are given through every door, are kept as an index too, and nothing else gets in."""

import json

import pytest
from django.core.management import call_command
from django.test import Client

from heimdall.errors import InvalidInput
from tests.pages.conftest import html
from tests.support.tokens import token_of
from training import services
from training.errors import NotAllowed
from training.models import Event, TrainingJob

pytestmark = pytest.mark.django_db
INLINES = ("attempts", "checkpoints", "events")


def by_page(job, alice):
    client = Client()
    client.force_login(alice)
    fields = {"job_name": job.job_name, "description": "", "priority": "0", "tags": "Night-2, baseline"}
    assert client.post(f"/jobs/{job.pk}/edit/", fields).status_code == 302


def by_rest(job, alice):
    headers = {"Authorization": f"Token {token_of(alice)}"}
    body = json.dumps({"tags": ["night-2", "baseline"]})
    answer = Client().patch(f"/v1/training/jobs/{job.pk}", body, "application/json", headers=headers)
    assert answer.json()["tags"] == ["night-2", "baseline"]


def by_command(job, alice):
    words = ("edit", str(job.pk), "--as", "alice", "--tag", "night-2", "--tag", "baseline")
    call_command("job", *words)


def by_admin(job, alice):
    alice.is_staff = True
    alice.save()
    client = Client()
    client.force_login(alice)
    address = f"/admin/training/trainingjob/{job.pk}/change/"
    inlines = {f"{name}-{count}_FORMS": "0" for name in INLINES for count in ("TOTAL", "INITIAL")}
    fields = {"job_name": job.job_name, "priority": "0", "tags": "night-2 baseline"}
    assert client.post(address, fields | inlines).status_code == 302


@pytest.mark.parametrize("give", [by_page, by_rest, by_command, by_admin])
def test_each_door_gives_tags_and_the_index_follows(give, make_job, alice):
    job = make_job()
    give(job, alice)
    assert TrainingJob.objects.get(tag_rows__name="baseline").tags == ["night-2", "baseline"]
    services.edit(job, by=alice, tags=["final"])
    assert not TrainingJob.objects.filter(tag_rows__name="baseline").exists()
    assert Event.objects.filter(job=job, kind="edit").last().data == {"fields": ["tags"]}


def test_a_new_job_and_its_clones_form_have_them(browse, alice):
    job = services.submit(by=alice, job_name="one", recipe="tiny", config={}, tags=["a", "b", "a"]).job
    assert (job.tags, job.tag_rows.count()) == (["a", "b"], 2)
    assert 'value="a b"' in html(browse(alice).get(f"/jobs/new/?from={job.pk}"))
    assert '<span class="tag">b</span>' in html(browse(alice).get(f"/jobs/{job.pk}/"))


@pytest.mark.parametrize(
    "bad", ["a", [1], ["two words"], ["Upper"], [""], ["x" * 41], [f"t{n}" for n in range(21)]]
)
def test_what_is_no_tag_is_refused_by_name(bad, make_job, alice, bob):
    job = make_job(tags=["kept"])
    with pytest.raises(InvalidInput) as refused:
        services.edit(job, by=alice, tags=bad)
    assert set(refused.value.fields) == {"tags"}
    with pytest.raises(NotAllowed):
        services.edit(job, by=bob, tags=["mine"])
    job.refresh_from_db()
    assert job.tags == ["kept"]
