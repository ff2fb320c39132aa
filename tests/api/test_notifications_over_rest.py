"""Subscriptions are made, changed and ended over REST; a secret is shown when it is made and never again."""

import pytest

from training import services
from training.models import Subscription

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("every_name_is_public")]
URL = "/v1/training/subscriptions"
HOOK = {"via": "webhook", "target": "https://hooks.example.org/x", "topics": ["failed", "completed"]}


def test_the_secret_is_shown_once(api):
    made = api.post(URL, HOOK, format="json")
    assert made.status_code == 201
    assert made["Cache-Control"] == "no-store"
    secret, one = made.json()["secret"], f"{URL}/{made.json()['id']}"
    assert secret.startswith("whsec_")
    renewed = api.post(f"{one}/secret")
    assert renewed.json()["secret"] not in {secret, None}
    for answer in (api.get(URL), api.get(one), api.patch(one, {"active": False}, format="json")):
        assert answer.status_code == 200
        assert "secret" not in answer.content.decode()


def test_it_is_changed_tested_and_ended(api):
    one = f"{URL}/{api.post(URL, HOOK, format='json').json()['id']}"
    assert api.get(one).json()["topics"] == ["completed", "failed"]
    assert api.patch(one, {"topics": [], "of_team": True}, format="json").json()["topics"] == []
    sent = api.post(f"{one}/test")
    assert (sent.status_code, sent.json()["topic"], sent.json()["state"]) == (202, "test", "waiting")
    listed = api.get(f"{one}/deliveries").json()
    assert [row["key"] for row in listed["results"]] == [sent.json()["content"]["id"]]
    assert api.post(f"{one}/deliveries/{sent.json()['id']}/again").status_code == 202
    assert api.post(f"{one}/deliveries/999/again").status_code == 404
    assert api.delete(one).status_code == 204
    assert api.get(one).status_code == 404
    assert not Subscription.objects.exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"target": "file:///etc/passwd"}, "target"),
        ({"topics": ["finished"]}, "topics.0"),
        ({"via": "pigeon"}, "via"),
        ({"team": "others"}, "team"),
        ({"secret": "mine"}, "secret"),
    ],
)
def test_what_is_refused_is_named(api, change, field):
    answer = api.post(URL, HOOK | change, format="json")
    assert answer.status_code == 400
    assert list(answer.json()["error"]["fields"]) == [field]


def test_a_teams_subscription_is_its_members_alone(client_of, alice, bob, mallory, admin_user):
    made = client_of(alice).post(URL, HOOK | {"team": "radio"}, format="json").json()
    seen = {
        user: client_of(user).get(f"{URL}/{made['id']}").status_code
        for user in (alice, bob, mallory, admin_user)
    }
    assert list(seen.values()) == [200, 200, 404, 404]
    assert client_of(bob).get(URL).json()["count"] == 1
    assert client_of(None).get(URL).status_code == 401


def test_a_job_is_watched_by_who_may_see_it(client_of, make_job, bob, mallory):
    watch = f"/v1/training/jobs/{make_job().pk}/watch"
    api = client_of(bob)
    assert api.get(watch).json() == {"watched": False}
    assert [api.put(watch).json(), api.put(watch).json(), api.get(watch).json()] == [{"watched": True}] * 3
    assert [api.delete(watch).status_code, api.delete(watch).status_code] == [204, 204]
    assert api.get(watch).json() == {"watched": False}
    assert [client_of(mallory).put(watch).status_code, client_of(None).put(watch).status_code] == [404, 401]


def test_email_has_no_secret(api, settings):
    settings.OFFERS_EMAIL = True
    made = api.post(URL, {"via": "email", "target": "alice@example.org"}, format="json").json()
    assert made["secret"] is None
    assert api.post(f"{URL}/{made['id']}/secret").status_code == 400


def test_a_message_of_another_subscription_is_not_found(api, alice, bob, client_of):
    theirs = client_of(bob).post(URL, HOOK, format="json").json()
    sent = services.send_test(Subscription.objects.get(pk=theirs["id"]), by=bob)
    mine = api.post(URL, HOOK, format="json").json()
    assert api.post(f"{URL}/{mine['id']}/deliveries/{sent.pk}/again").status_code == 404
