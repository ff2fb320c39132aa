"""The code that docs/notifications.md shows receives what Heimdall sends, and its tables name what there is."""

import json
import re
import time
from pathlib import Path

import pytest

from training.notifications import TEST, TOPICS, webhook
from training.services.outbox import BACKOFF_SECONDS, REST_SECONDS

TEXT = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text()


@pytest.fixture
def check():
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1], names)
    return names["is_from_heimdall"]


@pytest.fixture
def message(at_home, receiver):
    """A message as it arrived: the secret, the headers and the body."""
    secret = webhook.make_secret()
    webhook.send(receiver.url, secret=secret, key="1f6f", content={"text": "\u00e4"})
    headers, body = receiver.got[0]
    return secret, {name.lower(): value for name, value in headers.items()}, body


def test_what_is_ours_is_recognised(check, message):
    assert check(*message)


@pytest.mark.parametrize("what", ["secret", "body", "webhook-id", "webhook-timestamp", "webhook-signature"])
def test_what_was_changed_is_not(check, message, what):
    secret, headers, body = message
    if what == "secret":
        secret = webhook.make_secret()
    elif what == "body":
        body += b" "
    else:
        headers[what] = {"webhook-timestamp": str(int(time.time()) + 1)}.get(what, headers[what][:-2] + "x=")
    assert not check(secret, headers, body)


def test_what_was_recorded_cannot_be_sent_again_later(check, message, monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 301)
    assert not check(*message)


def test_every_topic_is_explained():
    named = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE)))
    assert sorted(named) == sorted([*TOPICS, TEST])


@pytest.mark.django_db
def test_the_message_shown_has_the_fields_of_a_real_one(subscribed, make_job, alice):
    from training import services
    from training.models import Delivery

    subscribed()
    services.cancel(make_job(), by=alice)
    shown, real = (
        json.loads(re.search(r"```json\n(.*?)```", TEXT, re.DOTALL)[1]),
        Delivery.objects.get().content,
    )
    assert shown.keys() == real.keys()
    assert shown["job"].keys() == real["job"].keys()
    assert shown["event"].keys() == real["event"].keys()


def test_the_pauses_are_those_of_the_code():
    assert BACKOFF_SECONDS[:4] == (10, 30, 120, 600)
    assert 21 <= sum(BACKOFF_SECONDS) / 3600 < 22
    assert REST_SECONDS == 300
