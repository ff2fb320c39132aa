"""E-mail by Django's own settings."""

from __future__ import annotations

import smtplib
from typing import Any

from django.core.mail import EmailMessage

from training.errors import NotDelivered


def send(address: str, *, key: str, content: dict[str, Any]) -> None:
    """Hand a message to the mail server, or raise NotDelivered."""
    message = EmailMessage(
        subject=subject(content),
        body=f"{content['text']}\n\n-- \nHeimdall. What is sent to you: {content['settings_url']}\n",
        to=[address],
        headers={"Message-ID": f"<{key}@heimdall>", "Auto-Submitted": "auto-generated"},
    )
    try:
        message.send()
    except (OSError, smtplib.SMTPException, ValueError) as error:
        raise NotDelivered(f"{type(error).__name__}: {error}"[:1_000]) from error


def subject(content: dict[str, Any]) -> str:
    if content["job"] is None:
        return "[Heimdall] A test"
    job = content["job"]
    return f"[Heimdall] {job['job_name']} (job {job['id']}): {content['topic']}"
