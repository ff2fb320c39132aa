"""Lists of jobs that people gave names to, for themselves or for a team."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from heimdall.errors import InvalidInput
from training import policy
from training.errors import NotAllowed, NotFound
from training.fields import clean_name
from training.models import SavedView

NAME_LENGTH, QUERY_LENGTH, MOST = 80, 1_000, 200


def visible_views(actor: Any) -> QuerySet[SavedView]:
    """The actor's own, and those that are shared with the actor's teams."""
    shared = Q(team__in=policy.own_teams(actor))
    return SavedView.objects.filter(Q(owner=actor.pk) | shared).select_related("owner", "team").distinct()


def save_view(*, by: Any, name: str, query: str, team: Group | None = None) -> SavedView:
    """Keep a list under a name; another one of the same person with this name is replaced."""
    name = _clean_name(name)
    if SavedView.objects.filter(owner=by).exclude(name=name).count() >= MOST:
        raise InvalidInput({"name": [f"You have {MOST} saved views; delete one first."]})
    facts = {"query": _clean_query(query), "team": policy.clean_team(team, by)}
    return SavedView.objects.update_or_create(owner=by, name=name, defaults=facts)[0]


def change_view(view: SavedView, *, by: Any, **changes: Any) -> SavedView:
    """Give it another name, another query or another team."""
    _require_own(view, by)
    if "name" in changes:
        changes["name"] = _clean_name(changes["name"])
    if "query" in changes:
        changes["query"] = _clean_query(changes["query"])
    if "team" in changes:
        changes["team"] = policy.clean_team(changes["team"], by)
    try:
        with transaction.atomic():
            if changes and not SavedView.objects.filter(pk=view.pk).update(**changes):
                raise _missing(view)
    except IntegrityError as error:
        says = f"There is another saved view called {changes['name']}."
        raise InvalidInput({"name": [says]}) from error
    view.refresh_from_db()
    return view


def delete_view(view: SavedView, *, by: Any) -> None:
    _require_own(view, by)
    SavedView.objects.filter(pk=view.pk).delete()


def _require_own(view: SavedView, by: Any) -> None:
    if view.owner_id == by.pk or by.is_superuser:
        return
    if not visible_views(by).filter(pk=view.pk).exists():
        raise _missing(view)
    raise NotAllowed(f"You may use the saved view {view.name}, but only its owner may change it.")


def _missing(view: SavedView) -> NotFound:
    return NotFound(f"There is no saved view {view.pk}.")


def _clean_name(name: Any) -> str:
    return clean_name(name, field="name", of="the view", longest=NAME_LENGTH)


def _clean_query(query: Any) -> str:
    if not isinstance(query, str) or len(query) > QUERY_LENGTH or not query.isprintable():
        raise InvalidInput(
            {"query": [f"Give filters as an address has them, in at most {QUERY_LENGTH} characters."]}
        )
    return query.removeprefix("?")
