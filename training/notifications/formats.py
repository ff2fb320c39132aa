"""How a webhook's message is written for who reads it: our own JSON, or what a chat server's incoming webhook takes.

slack    https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks (Mattermost reads the same)
teams    https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using (an
         Adaptive Card, as the workflow "When a webhook request is received" wants it)
discord  https://discord.com/developers/docs/resources/webhook#execute-webhook
ntfy     https://docs.ntfy.sh/publish/ (the text is the body, the rest stands in headers)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

HEIMDALL = "heimdall"
_DISCORD_CHARACTERS = 2_000
_NTFY_BYTES = 4_096
_NTFY_TAGS = {"completed": "white_check_mark", "failed": "x", "crashed": "warning", "lost": "warning"}


@dataclass(frozen=True)
class WrittenMessage:
    """The bytes of a message, the same in every try, and the headers that say what they are."""

    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


def write(content: dict[str, Any], form: str = HEIMDALL) -> WrittenMessage:
    """A message of the outbox in one of FORMATS."""
    return _WRITERS[form](content)


def _own(content: dict[str, Any]) -> WrittenMessage:
    return WrittenMessage(_as_json(content))


def _slack(content: dict[str, Any]) -> WrittenMessage:
    # Slack reads three characters as markup: https://docs.slack.dev/messaging/formatting-message-text
    text = content["text"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return WrittenMessage(_as_json({"text": text}))


def _discord(content: dict[str, Any]) -> WrittenMessage:
    # A job's name must not call a whole channel.
    message = {"content": content["text"][:_DISCORD_CHARACTERS], "allowed_mentions": {"parse": []}}
    return WrittenMessage(_as_json(message))


def _teams(content: dict[str, Any]) -> WrittenMessage:
    card: dict[str, Any] = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [{"type": "TextBlock", "text": content["text"], "wrap": True}],
    }
    if url := _address_of(content):
        card["actions"] = [{"type": "Action.OpenUrl", "title": "Open the job", "url": url}]
    attached = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
    return WrittenMessage(_as_json({"type": "message", "attachments": [attached]}))


def _ntfy(content: dict[str, Any]) -> WrittenMessage:
    topic = str(content.get("topic", ""))
    headers = {"Title": f"Heimdall: {topic}", "Tags": _NTFY_TAGS.get(topic, "bell")}
    if url := _address_of(content):
        headers["Click"] = url
    text = content["text"].encode()[:_NTFY_BYTES].decode(errors="ignore")
    return WrittenMessage(text.encode(), "text/plain; charset=utf-8", headers)


def _address_of(content: dict[str, Any]) -> str:
    return (content.get("job") or {}).get("url") or ""


def _as_json(message: dict[str, Any]) -> bytes:
    return json.dumps(message, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


_WRITERS: dict[str, Callable[[dict[str, Any]], WrittenMessage]] = {
    HEIMDALL: _own,
    "slack": _slack,
    "teams": _teams,
    "discord": _discord,
    "ntfy": _ntfy,
}
FORMATS = {
    HEIMDALL: "Heimdall's own JSON, for a program",
    "slack": "Slack or Mattermost",
    "teams": "Microsoft Teams",
    "discord": "Discord",
    "ntfy": "ntfy",
}
