"""The bell's pages: subscribe, see the secret once, test, see what became of each message, watch a job."""

import re

import pytest

from tests.notifications.conftest import at_home, receiver  # noqa: F401
from tests.pages.conftest import html, words
from training import services
from training.models import Subscription, Watch
from training.worker import courier

pytestmark = pytest.mark.django_db
HOME = "/settings/notifications/"


@pytest.fixture
def hook(browse, alice, at_home, receiver):  # noqa: F811
    """The answer to the form that made Alice's webhook."""
    form = {"target": receiver.url, "topics": ["completed", "cancelled"], "scopes": ["of_own"]}
    return browse(alice).post(f"{HOME}new/", form)


def test_the_secret_stands_on_one_page_only(hook, browse, alice):
    secret = Subscription.objects.get().secret
    assert (hook.status_code, hook["Cache-Control"]) == (201, "no-store")
    assert secret in html(hook)
    one = f"{HOME}{Subscription.objects.get().pk}/"
    for address in (HOME, one, f"{one}secret/"):
        assert secret not in html(browse(alice).get(address))
    assert Subscription.objects.get().topics == ["completed", "cancelled"]


def test_a_private_address_is_refused_beside_its_field(browse, alice):
    form = {"target": "http://10.0.0.1/", "topics": ["completed"], "scopes": ["of_own"]}
    answer = browse(alice).post(f"{HOME}new/", form)
    assert answer.status_code == 400
    assert re.search(r'id="id_target_error"><li>10\.0\.0\.1 is no public address', html(answer))


def test_what_became_of_each_message_is_shown(hook, browse, alice, make_job, receiver):  # noqa: F811
    one = f"{HOME}{Subscription.objects.get().pk}/"
    client = browse(alice)
    receiver.answer(500, "<b>no</b>")
    services.cancel(make_job(job_name="north"), by=alice)
    assert "waiting" in words(html(client.get(one)))
    courier.deliver_due()
    seen = html(client.get(one))
    assert "trying again" in words(seen)
    assert "&lt;b&gt;no&lt;/b&gt;" in seen
    again = re.search(rf'action="({one}deliveries/\d+/again/)"', seen)[1]
    assert client.post(again).status_code == 302
    assert client.post(f"{one}test/").status_code == 302
    courier.deliver_due(), courier.deliver_due()
    assert words(html(client.get(one))).count("delivered") == 2
    assert "delivered" in words(html(client.get(HOME)))


def test_it_is_changed_switched_and_deleted(hook, browse, alice):
    made = Subscription.objects.get()
    client, one = browse(alice), f"{HOME}{made.pk}/"
    every = [topic for topic, _ in services.notifications.TOPICS.items()]
    assert (
        client.post(one, {"target": made.target, "topics": every, "scopes": ["of_watched"]}).status_code
        == 302
    )
    client.post(f"{one}switch/")
    changed = Subscription.objects.get()
    assert (changed.topics, changed.of_own, changed.of_watched, changed.active) == ([], False, True, False)
    assert "Delete this subscription?" in html(client.get(f"{one}delete/"))
    assert client.post(f"{one}nonsense/").status_code == 404
    assert client.post(f"{one}delete/").status_code == 302
    assert not Subscription.objects.exists()


def test_others_find_nothing_there(hook, browse, bob, admin_user):
    one = f"{HOME}{Subscription.objects.get().pk}/"
    for user in (bob, admin_user):
        assert browse(user).get(one).status_code == 404
        assert browse(user).post(f"{one}delete/").status_code == 404


def test_email_is_offered_where_there_is_a_server_only(browse, alice, settings):
    settings.OFFERS_EMAIL = False
    assert "HEIMDALL_EMAIL_URL" in html(browse(alice).get(HOME))
    assert browse(alice).get(f"{HOME}new/?via=email").status_code == 404
    settings.OFFERS_EMAIL = True
    alice.email = "alice@example.org"
    alice.save()
    assert 'value="alice@example.org"' in html(browse(alice).get(f"{HOME}new/?via=email"))


def test_a_team_has_its_own(browse, bob, mallory, team):
    answer = browse(bob).get(f"{HOME}new/?team={team.pk}")
    assert "Webhook of team radio" in html(answer)
    assert "Which jobs" not in html(answer)
    assert browse(mallory).get(f"{HOME}new/?team={team.pk}").status_code == 404


def test_a_job_is_watched_by_a_plain_button(browse, bob, make_job):
    job = make_job(job_name="north")
    client = browse(bob)
    assert "Stop watching" not in html(client.get(f"/jobs/{job.pk}/"))
    assert client.post(f"/jobs/{job.pk}/watch/", {"watched": "1"}).status_code == 302
    assert "Stop watching" in html(client.get(f"/jobs/{job.pk}/"))
    assert "north" in html(client.get(HOME))
    assert client.get(f"{HOME}watched/").json() == {"jobs": [job.pk]}
    client.post(f"/jobs/{job.pk}/watch/", {"watched": "0"})
    assert not Watch.objects.exists()
