"""The outbox is sent by a courier: signed, again and again with growing pauses, and by one sender at a time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import threading
from datetime import timedelta

import pytest
from django.core import mail
from django.db import OperationalError
from django.db.models import F

from tests.services.test_races_have_one_winner import at_once
from training import services
from training.models import Delivery, Subscription
from training.notifications import webhook
from training.services import outbox
from training.worker import courier

pytestmark = pytest.mark.django_db


@pytest.fixture
def sent(subscribed, alice):
    """A test message in the outbox of Alice's webhook."""
    hook = subscribed()
    return services.send_test(hook, by=alice)


def later(seconds: float) -> None:
    """Let that much time pass for the outbox."""
    ago = timedelta(seconds=seconds)
    Delivery.objects.update(next_try_at=F("next_try_at") - ago)
    Subscription.objects.exclude(resting_until=None).update(resting_until=F("resting_until") - ago)


def test_a_message_that_cannot_be_sent_holds_up_no_other(subscribed, alice, receiver, monkeypatch):
    bad, good = (services.send_test(subscribed(), by=alice) for _ in range(2))
    send = webhook.send

    def stumble(url, *, key, **message):
        if key == str(bad.key):
            raise RuntimeError("nobody foresaw this")
        return send(url, key=key, **message)

    monkeypatch.setattr(webhook, "send", stumble)
    assert courier.deliver_due() == 2
    bad.refresh_from_db(), good.refresh_from_db()
    assert (bad.state, good.state) == (Delivery.State.WAITING, Delivery.State.DELIVERED)
    assert "RuntimeError" in bad.answer
    assert courier.deliver_due() == 0  # it waits its turn


def test_a_message_is_signed_over_id_time_and_body(sent, receiver):
    assert courier.deliver_due() == 1
    headers, body = receiver.got[0]
    secret = Subscription.objects.get().secret
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256)
    assert headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()
    assert headers["webhook-id"] == str(sent.key) == json.loads(body)["id"]
    assert headers["Content-Type"] == "application/json"


def test_the_signature_is_that_of_the_published_example():
    """From the specification of Standard Webhooks."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signature = webhook.sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_what_arrived_is_not_sent_again(sent, receiver):
    receiver.answer(200, "thank you")
    assert [courier.deliver_due(), courier.deliver_due()] == [1, 0]
    sent.refresh_from_db()
    assert (sent.state, sent.tries, sent.answer_status, sent.answer) == ("delivered", 1, 200, "thank you")


def test_a_failed_try_is_repeated_with_the_same_id_and_body(sent, receiver):
    receiver.answer(503, "not now")
    courier.deliver_due()
    sent.refresh_from_db()
    assert (sent.state, sent.answer_status, sent.answer) == ("waiting", 503, "not now")
    assert courier.deliver_due() == 0
    later(outbox.BACKOFF_SECONDS[0])
    assert courier.deliver_due() == 1
    (first, one), (second, other) = receiver.got
    assert (first["webhook-id"], one) == (second["webhook-id"], other)
    assert Subscription.objects.get().failures == 0


def test_pauses_grow_and_end_in_giving_up(sent, receiver):
    pauses = []
    for _ in range(len(outbox.BACKOFF_SECONDS) + 1):
        receiver.answer(500)
        assert courier.deliver_due() == 1
        sent.refresh_from_db()
        pauses.append(round((sent.next_try_at - sent.last_try_at).total_seconds()))
        later(100_000)
    assert tuple(pauses[:-1]) == outbox.BACKOFF_SECONDS
    assert sent.state == Delivery.State.GIVEN_UP
    assert courier.deliver_due() == 0
    services.send_again(sent, by=Subscription.objects.get().user)
    assert courier.deliver_due() == 1
    sent.refresh_from_db()
    assert sent.state == Delivery.State.DELIVERED


def test_a_receiver_that_fails_is_left_alone_whatever_waits_for_it(subscribed, make_job, alice, receiver):
    hook = subscribed()
    for _ in range(5):
        services.cancel(make_job(), by=alice)
    receiver.answer(500)
    assert [courier.deliver_due(), courier.deliver_due()] == [1, 0]
    services.send_test(hook, by=alice)  # a person who tries does not wait
    assert courier.deliver_due() == 1
    assert json.loads(receiver.got[1][1])["topic"] == "test"
    assert [courier.deliver_due() for _ in range(5)] == [1, 1, 1, 1, 0]  # it answered: nobody rests any more


@pytest.mark.django_db(transaction=True)
def test_two_couriers_never_send_one_message_together(sent, receiver, monkeypatch):
    """Both have found it before either takes it."""
    both, claim = threading.Barrier(2), outbox._claim
    monkeypatch.setattr(outbox, "_claim", lambda delivery: (both.wait(10), claim(delivery))[1])
    claimed = at_once(*[lambda: services.claim_deliveries(limit=8)] * 2)
    assert sorted(map(len, claimed)) == [0, 1]


def test_a_message_that_was_taken_is_not_due(sent, receiver):
    assert len(services.claim_deliveries(limit=8)) == 1
    assert services.claim_deliveries(limit=8) == []


def test_a_message_whose_sender_vanished_is_sent_by_another(sent, receiver):
    (lost,) = services.claim_deliveries(limit=8)
    later(outbox.CLAIM_SECONDS)
    assert courier.deliver_due() == 1
    services.note_failed(lost, status=None, reason="too late")
    sent.refresh_from_db()
    assert sent.state == Delivery.State.DELIVERED


def test_receivers_do_not_wait_for_each_other(subscribed, alice, receiver):
    both = threading.Barrier(2)

    def together(handler):
        both.wait(timeout=10)  # broken, and no answer, if the other message does not come meanwhile
        handler.send_response(204)
        handler.end_headers()

    receiver.answers += [together, together]
    for hook in (subscribed(), subscribed()):
        services.send_test(hook, by=alice)
    assert courier.deliver_due() == 2
    assert set(Delivery.objects.values_list("state", flat=True)) == {Delivery.State.DELIVERED}


def test_nothing_is_sent_for_who_left(sent, alice):
    alice.is_active = False
    alice.save()
    assert courier.deliver_due() == 0


def test_neither_secret_nor_address_is_logged(sent, receiver, caplog):
    caplog.set_level(logging.DEBUG)
    receiver.answer(500, "the answer's own secret")
    courier.deliver_due()
    hook = Subscription.objects.get()
    assert str(sent.key) in caplog.text
    for secret in (hook.secret, hook.secret.removeprefix("whsec_"), "room=7", "the answer's own secret"):
        assert secret not in caplog.text


def test_the_courier_goes_on_whatever_went_wrong(monkeypatch, caplog):
    went_wrong = [OperationalError("the database is away"), RuntimeError("a mistake of ours")]
    calm = threading.Event()

    def deliver_due() -> int:
        if went_wrong:
            raise went_wrong.pop(0)
        calm.set()
        return 0

    monkeypatch.setattr(courier, "deliver_due", deliver_due)
    monkeypatch.setattr(courier, "LOOK_SECONDS", 0.01)
    thread = courier.Courier()
    thread.start()
    assert calm.wait(timeout=10)
    thread.end()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert "the database is away" in caplog.text
    assert "a mistake of ours" in caplog.text


def test_messages_of_long_ago_are_forgotten(sent):
    assert services.forget_deliveries() == 0
    Delivery.objects.update(created_at=F("created_at") - timedelta(days=31))
    assert services.forget_deliveries() == 1


def test_mail_goes_out_by_djangos_settings(subscribed, alice, make_job, settings):
    settings.OFFERS_EMAIL = True
    hook = subscribed(via="email", target="alice@example.org")
    assert hook.secret == ""
    services.cancel(make_job(job_name="north"), by=alice)
    assert courier.deliver_due() == 1
    (letter,) = mail.outbox
    assert letter.to == ["alice@example.org"]
    assert letter.subject.startswith("[Heimdall] north (job ")
    assert letter.subject.endswith("): cancelled")
    assert "Cancelled while queued." in letter.body
    assert "/settings/notifications/" in letter.body
    assert str(Delivery.objects.get().key) in letter.extra_headers["Message-ID"]


def test_a_mail_server_that_is_not_there_is_a_failed_try(subscribed, alice, settings):
    settings.OFFERS_EMAIL = True
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    services.send_test(subscribed(via="email", target="alice@example.org"), by=alice)
    courier.deliver_due()
    assert Delivery.objects.get().state == Delivery.State.WAITING
    assert "refused" in Delivery.objects.get().answer
