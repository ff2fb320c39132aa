"""Signing and sending a webhook's messages, as https://www.standardwebhooks.com describes them.

One POST to the address that was checked. No redirect is followed, no proxy is asked, and neither a slow nor a
talkative receiver holds us up.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import secrets
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any

from training.errors import AddressRefused, NotDelivered
from training.notifications import addresses, formats
from training.notifications.addresses import Endpoint

SECONDS = 10.0  # for everything after the look-up of the name
ANSWER_BYTES = 1_000
_PREFIX = "whsec_"


@dataclass(frozen=True)
class WebhookAnswer:
    status: int
    text: str


def make_secret() -> str:
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(secret: str, key: str, moment: int, body: bytes) -> str:
    """The `webhook-signature` header over id, time and body."""
    signed = f"{key}.{moment}.".encode() + body
    bare = base64.b64decode(secret.removeprefix(_PREFIX))
    return "v1," + base64.b64encode(hmac.new(bare, signed, hashlib.sha256).digest()).decode()


def send(
    url: str, *, secret: str, key: str, content: dict[str, Any], form: str = formats.HEIMDALL
) -> WebhookAnswer:
    """Deliver a message, or raise NotDelivered. Delivered is what was answered with 2xx."""
    try:
        endpoint = addresses.read(url)
        address = addresses.address_of(endpoint)
    except AddressRefused as error:
        raise NotDelivered(str(error)) from error
    message, moment = formats.write(content, form), int(time.time())
    headers = {
        "Host": endpoint.authority,
        "Content-Type": message.content_type,
        "User-Agent": "Heimdall",
        "webhook-id": key,
        "webhook-timestamp": str(moment),
        "webhook-signature": sign(secret, key, moment, message.body),
        **message.headers,
    }
    answer = _post(endpoint, address, message.body, headers)
    if 200 <= answer.status < 300:
        return answer
    reason = "sent us elsewhere, where we do not go" if 300 <= answer.status < 400 else answer.text
    raise NotDelivered(reason, status=answer.status)


def _post(endpoint: Endpoint, address: str, body: bytes, headers: dict[str, str]) -> WebhookAnswer:
    connection = _Connection(endpoint, address)
    deadline = threading.Timer(SECONDS, connection.cut)
    deadline.daemon = True
    deadline.start()
    try:
        connection.request("POST", endpoint.path, body, headers)
        answer = connection.getresponse()
        text = answer.read(ANSWER_BYTES).decode(errors="replace").replace("\x00", "\ufffd")
        if connection.was_cut:  # headers that end early look whole
            raise TimeoutError
        return WebhookAnswer(answer.status, text)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if connection.was_cut or isinstance(error, TimeoutError):
            raise NotDelivered(f"No whole answer came within {SECONDS:g} s.") from error
        raise NotDelivered(f"{type(error).__name__}: {error}"[:ANSWER_BYTES]) from error
    finally:
        deadline.cancel()
        connection.close()


class _Connection(http.client.HTTPConnection):
    """Connects to an address that was checked; name and certificate are those of the URL's host."""

    def __init__(self, endpoint: Endpoint, address: str):
        super().__init__(endpoint.host, endpoint.port, timeout=SECONDS)
        self._endpoint, self._address = endpoint, address
        self.was_cut = False

    def connect(self) -> None:
        # No function that looks names up: the address is all that counts.
        self.sock = socket.socket(socket.AF_INET6 if ":" in self._address else socket.AF_INET)
        self.sock.settimeout(self.timeout)
        self.sock.connect((self._address, self.port))
        if self._endpoint.scheme == "https":
            context = ssl.create_default_context()
            # The handshake comes after `sock` is set, so that the deadline can cut it too.
            self.sock = context.wrap_socket(
                self.sock, server_hostname=self._endpoint.host, do_handshake_on_connect=False
            )
            self.sock.do_handshake()
        if self.was_cut:
            raise TimeoutError

    def cut(self) -> None:
        """End it, from another thread: whoever reads or writes gets an error at once."""
        self.was_cut = True
        sock = self.sock
        if sock is not None:
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            except OSError:
                pass  # it was not connected, or is closed already
