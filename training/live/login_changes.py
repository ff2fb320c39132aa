"""Tells every web process at once that somebody's rights may have changed: a logout, a user made inactive, a
revoked token, a team that was left. Open sockets then look their logins up, and do not wait for their next round.

The channel layer carries it: in memory within this process, with REDIS_URL between all of them. It is best effort.
One thread with an event loop of its own speaks to the layer, so a layer that raises or hangs is in nobody's way,
and what it does not carry the rounds find. A message names a user and is never believed: who hears it asks the
database.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from typing import Any

from channels.layers import get_channel_layer
from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models.signals import m2m_changed, post_delete, post_save

from training.models import ApiToken

logger = logging.getLogger(__name__)

GROUP = "logins"
ANYBODY = 0  # in place of a user's id
SEND_SECONDS = 2.0  # a layer that takes longer is not waited for
REJOIN_SECONDS = 60.0  # a layer that was emptied knows us again after this time
RETRY_SECONDS = 5.0
MOST_UNSENT = 1_000  # of them, where the layer is slower than they come

OnChange = Callable[[int], None]


class LoginChanges:
    """The thread between one process and a channel layer."""

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self._loop = asyncio.new_event_loop()
        self._subscribers: set[OnChange] = set()
        self._num_unsent = 0
        self._is_receiving = self._is_away = False
        self.has_joined = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="login-changes", daemon=True)
        self._thread.start()

    @property
    def has_subscribers(self) -> bool:
        return bool(self._subscribers)

    def publish(self, user: int) -> None:
        """Returns at once."""
        asyncio.run_coroutine_threadsafe(self._send(user), self._loop)

    def subscribe(self, on_change: OnChange) -> None:
        """Call `on_change`, in a thread of its own, for what any process publishes from now on."""
        self._subscribers.add(on_change)
        if not self._is_receiving:
            self._is_receiving = True
            asyncio.run_coroutine_threadsafe(self._receive(), self._loop)

    def unsubscribe(self, on_change: OnChange) -> None:
        self._subscribers.discard(on_change)

    async def _send(self, user: int) -> None:
        if self._num_unsent >= MOST_UNSENT:
            return
        self._num_unsent += 1
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._layer.group_send(GROUP, {"type": "login.changed", "user": user})
        except Exception as error:
            self._miss(error)
        finally:
            self._num_unsent -= 1

    async def _receive(self) -> None:
        while True:
            try:
                channel = await self._layer.new_channel()
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._stay_in_group(channel))
                    both.create_task(self._hand_on(channel))
            except Exception as error:
                self._miss(error)
                await asyncio.sleep(RETRY_SECONDS)

    async def _stay_in_group(self, channel: str) -> None:
        while True:
            await self._layer.group_add(GROUP, channel)
            self.has_joined.set()
            self._is_away = False
            await asyncio.sleep(REJOIN_SECONDS)

    async def _hand_on(self, channel: str) -> None:
        while True:
            user = (await self._layer.receive(channel)).get("user")
            for on_change in list(self._subscribers):
                on_change(user if isinstance(user, int) else ANYBODY)

    def _miss(self, error: Exception) -> None:
        if not self._is_away:
            self._is_away = True
            logger.warning("Lost logins are found some seconds later: the channel layer says %r", error)


_of_processes: dict[int, LoginChanges] = {}
_lock = threading.Lock()


def login_changes() -> LoginChanges:
    """The one of this process; a thread does not outlive a fork."""
    with _lock:
        if os.getpid() not in _of_processes:
            _of_processes.clear()
            _of_processes[os.getpid()] = LoginChanges(get_channel_layer())
        return _of_processes[os.getpid()]


def publish(user: int) -> None:
    """With the commit, so that who hears it finds it."""
    transaction.on_commit(lambda: _publish(user), robust=True)


def _publish(user: int) -> None:
    here = _of_processes.get(os.getpid())
    if settings.REDIS_URL or (here and here.has_subscribers):  # else nobody is told
        login_changes().publish(user)


def connect_signals() -> None:
    """Every door that changes a login goes through these models. An `update()` of rows sends no signal."""
    user = get_user_model()
    post_save.connect(_user_saved, sender=user, dispatch_uid="login_changes")
    post_delete.connect(_user_deleted, sender=user, dispatch_uid="login_changes")
    post_delete.connect(_token_deleted, sender=ApiToken, dispatch_uid="login_changes")
    post_delete.connect(_session_deleted, sender=Session, dispatch_uid="login_changes")
    post_delete.connect(_group_changed, sender=Group, dispatch_uid="login_changes")
    m2m_changed.connect(_group_changed, sender=Group.permissions.through, dispatch_uid="login_changes")
    for rights in (user.groups.through, user.user_permissions.through):
        m2m_changed.connect(_rights_changed, sender=rights, dispatch_uid="login_changes")


def _user_saved(instance: Any, created: bool, update_fields: Any = None, **_: Any) -> None:
    is_login = update_fields is not None and set(update_fields) == {"last_login"}
    if not created and not is_login:
        publish(instance.pk)


def _user_deleted(instance: Any, **_: Any) -> None:
    publish(instance.pk)


def _token_deleted(instance: Any, **_: Any) -> None:
    publish(instance.user_id)


def _session_deleted(instance: Any, **_: Any) -> None:
    """A logout, or the end of an old session."""
    user = str(instance.get_decoded().get(SESSION_KEY, ""))
    if user.isdigit():
        publish(int(user))


def _rights_changed(action: str, instance: Any, reverse: bool, pk_set: Any = None, **_: Any) -> None:
    """Seen from the user, or (`reverse`) from the group or the permission."""
    if action.startswith("post_"):
        for user in (pk_set or [ANYBODY]) if reverse else [instance.pk]:
            publish(user)


def _group_changed(action: str = "post_delete", **_: Any) -> None:
    if action.startswith("post_"):
        publish(ANYBODY)
