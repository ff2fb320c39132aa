"""Carries the outbox's messages to their receivers, in a thread of a worker's guard. No job waits for it.

The database is spoken to by this thread alone; a few others talk to receivers, each for a bounded time.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

from django.db import Error, close_old_connections

from training import services
from training.errors import NotDelivered
from training.models import Delivery, Subscription
from training.notifications import mail, webhook

logger = logging.getLogger(__name__)
LOOK_SECONDS = 1.0
WIDE = 8  # receivers that are spoken to at a time
Outcome = webhook.WebhookAnswer | NotDelivered | None  # of a webhook, of none, of an e-mail


class Courier(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="courier", daemon=True)
        self._ended = threading.Event()

    def run(self) -> None:
        """1. wait  2. send what is due  3. at once again while there is more."""
        while not self._ended.wait(LOOK_SECONDS):
            try:
                while deliver_due() and not self._ended.is_set():
                    pass
            except Error as error:
                logger.warning("Notifications wait for the database: %s", error)
                close_old_connections()
            except Exception:
                logger.exception("Notifications were not sent; it is tried again.")

    def end(self) -> None:
        """What is under way may stay unfinished: it is due again after a minute."""
        self._ended.set()


def deliver_due() -> int:
    """Send what is due, one message a receiver, and note what became of each. Returns how many were tried."""
    claimed = services.claim_deliveries(limit=WIDE)
    if claimed:
        with ThreadPoolExecutor(min(WIDE, len(claimed))) as pool:
            outcomes = list(pool.map(_send, claimed))
        for delivery, outcome in zip(claimed, outcomes, strict=True):
            _note(delivery, outcome)
    return len(claimed)


def _send(delivery: Delivery) -> Outcome:
    receiver, key = delivery.subscription, str(delivery.key)
    try:
        if receiver.via == Subscription.Via.EMAIL:
            mail.send(receiver.target, key=key, content=delivery.content)
            return None
        return webhook.send(
            receiver.target, secret=receiver.secret, key=key, content=delivery.content, form=receiver.format
        )
    except NotDelivered as error:
        return error
    except Exception as error:  # one message that cannot be sent must not hold up the others for ever
        logger.exception("Delivery %s could not be sent.", key)
        return NotDelivered(f"Heimdall itself failed: {type(error).__name__}.")


def _note(delivery: Delivery, outcome: Outcome) -> None:
    if isinstance(outcome, NotDelivered):
        services.note_failed(delivery, status=outcome.status, reason=str(outcome))
        # The address and the answer may hold secrets of their own: they stand on the page, not in the log.
        logger.info("Delivery %s failed, try %d.", delivery.key, delivery.tries)
    elif outcome is None:
        services.note_delivered(delivery, status=None, answer="Handed to the mail server.")
    else:
        services.note_delivered(delivery, status=outcome.status, answer=outcome.text)
