"""A chat server takes only its own words: each format is written as its documentation says, and sent signed."""

from __future__ import annotations

import json

import pytest

from heimdall.errors import InvalidInput
from training import services
from training.notifications import FORMATS, formats
from training.worker import courier

pytestmark = pytest.mark.django_db
CONTENT = {
    "text": "north <1> & co (job 7): completed. http://gpu.example.org/jobs/7/",
    "topic": "completed",
    "job": {"url": "http://gpu.example.org/jobs/7/"},
}


def body(form: str, content: dict = CONTENT) -> dict:
    return json.loads(formats.write(content, form).body)


def test_slack_gets_its_three_signs_escaped():
    assert body("slack") == {
        "text": "north &lt;1&gt; &amp; co (job 7): completed. http://gpu.example.org/jobs/7/"
    }


def test_discord_calls_nobody_and_is_cut_where_it_must_be():
    long = body("discord", CONTENT | {"text": "@everyone " + "x" * 3_000})
    assert long["allowed_mentions"] == {"parse": []}
    assert len(long["content"]) == 2_000


def test_teams_gets_a_card_with_the_way_to_the_job():
    card = body("teams")["attachments"][0]["content"]
    assert card["body"][0]["text"] == CONTENT["text"]
    assert card["actions"][0]["url"] == "http://gpu.example.org/jobs/7/"
    assert "actions" not in body("teams", CONTENT | {"job": None})["attachments"][0]["content"]


def test_ntfy_gets_plain_text_and_headers():
    written = formats.write(CONTENT | {"text": "\u00e4" * 3_000}, "ntfy")
    assert written.content_type == "text/plain; charset=utf-8"
    assert written.body.decode() == "\u00e4" * 2_048  # 4096 bytes, and no half letter
    assert written.headers == {
        "Title": "Heimdall: completed",
        "Tags": "white_check_mark",
        "Click": "http://gpu.example.org/jobs/7/",
    }


def test_each_format_arrives_signed(subscribed, receiver, alice):
    for form in FORMATS:
        services.send_test(subscribed(format=form), by=alice)
    assert courier.deliver_due() == len(FORMATS)
    kinds = sorted(headers["Content-Type"] for headers, _ in receiver.got)
    assert kinds == [*["application/json"] * 4, "text/plain; charset=utf-8"]
    assert all(headers["webhook-signature"].startswith("v1,") for headers, _ in receiver.got)


def test_an_unknown_format_and_one_of_an_e_mail_are_refused(subscribed, alice, settings):
    with pytest.raises(InvalidInput, match="Choose from: heimdall, slack"):
        subscribed(format="pigeon")
    settings.OFFERS_EMAIL = True
    with pytest.raises(InvalidInput, match="no format to choose"):
        services.subscribe(by=alice, via="email", target="a@example.org", format="slack")


def test_the_form_changes_the_format(subscribed, client, alice):
    hook = subscribed()
    client.force_login(alice)
    page = f"/settings/notifications/{hook.pk}/"
    assert "Microsoft Teams" in client.get(page).content.decode()
    fields = {"target": hook.target, "topics": ["failed"], "scopes": ["of_own"]}
    assert client.post(page, fields | {"format": "ntfy"}).status_code == 302
    hook.refresh_from_db()
    assert hook.format == "ntfy"
    assert client.post(page, fields | {"format": "fax"}).status_code == 400
