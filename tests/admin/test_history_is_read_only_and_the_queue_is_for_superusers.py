import pytest
from django.contrib import admin as django_admin
from django.contrib.auth.models import Permission
from django.utils import timezone
from unfold.admin import ModelAdmin

from tests.support.tokens import token_of
from training import services
from training.models import Attempt, Checkpoint, Event, Node

pytestmark = pytest.mark.django_db
HISTORY = (Attempt, Checkpoint, Event, Node)


@pytest.fixture
def job(alice, node):
    services.submit(by=alice, job_name="seen by alice", recipe="tiny", config={})
    return services.claim(node, slot=0, pid=1).job


def test_every_page_of_the_admin_opens(client, admin_user, make_job):
    job = make_job(status="running", with_checkpoint=True, step=1)
    token_of(admin_user)
    client.force_login(admin_user)
    assert client.get("/admin/").status_code == 200
    for model, model_admin in django_admin.site._registry.items():
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        assert client.get(base).status_code == 200, base
        for row in model.objects.all()[:1]:
            answer = client.get(f"{base}{row.pk}/change/")
            assert answer.status_code == 200, (base, answer)
        assert isinstance(model_admin, ModelAdmin), f"{model} is not shown in the theme"
    assert job.attempts.count() == 1


@pytest.mark.parametrize("model", HISTORY, ids=lambda model: model._meta.model_name)
def test_history_cannot_be_added_changed_or_deleted_not_even_by_a_superuser(
    client, admin_user, job, make_job, model
):
    make_job(status="completed", with_checkpoint=True, step=1)
    client.force_login(admin_user)
    row, num_rows = model.objects.first(), model.objects.count()
    base = f"/admin/training/{model._meta.model_name}/"
    assert client.get(base + "add/").status_code == 403
    assert client.get(f"{base}{row.pk}/change/").status_code == 200
    assert client.post(f"{base}{row.pk}/change/", {}).status_code == 403
    assert client.post(f"{base}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.get(base).status_code == 200
    assert model.objects.count() == num_rows


def test_times_and_losses_are_written_as_on_the_pages(client, admin_user, make_job):
    job = make_job(status="completed", with_checkpoint=True, step=1)
    Checkpoint.objects.update(val_loss=1.8235575312)
    client.force_login(admin_user)
    day = timezone.localtime(Checkpoint.objects.get().created_at).strftime("%Y-%m-%d %H:%M:%S")
    for address in ("/admin/training/checkpoint/", f"/admin/training/trainingjob/{job.pk}/change/"):
        text = client.get(address).content.decode()
        assert "1.824" in text
        assert "1.8235" not in text
        assert day in text


def test_history_shows_only_jobs_that_one_can_see(client, job, mallory, bob, team):
    for user in (mallory, bob):
        user.is_staff = True
        user.save()
    client.force_login(mallory)
    assert "seen by alice" not in client.get("/admin/training/event/").content.decode()
    assert client.get(f"/admin/training/event/{Event.objects.first().pk}/change/").status_code == 302
    job.team = team
    job.save(update_fields=["team"])
    client.force_login(bob)
    assert "seen by alice" in client.get("/admin/training/event/").content.decode()


def test_queue_messages_and_tokens_are_for_superusers_whatever_permissions_others_have(
    client, admin_user, bob, job
):
    bob.is_staff = True
    bob.save()
    bob.user_permissions.set(Permission.objects.all())
    pages = ["/admin/django_q/ormq/", "/admin/training/apitoken/"]
    client.force_login(bob)
    assert [client.get(page).status_code for page in pages] == [403] * 2
    assert "django_q" not in client.get("/admin/").content.decode()
    client.force_login(admin_user)
    assert [client.get(page).status_code for page in pages] == [200] * 2
    assert client.get("/admin/django_q/ormq/add/").status_code == 403


def test_what_the_queue_keeps_as_pickles_is_shown_to_nobody(client, admin_user):
    """Results and schedules are rows that name or hold any object; to show one is to load it."""
    client.force_login(admin_user)
    for name in ("success", "failure", "schedule"):
        assert client.get(f"/admin/django_q/{name}/").status_code == 404


def test_people_who_are_not_staff_do_not_get_in(client, alice, job):
    client.force_login(alice)
    assert client.get("/admin/training/trainingjob/").status_code == 302
