"""How people arrange their pages: the panels of curves, in the order that they chose."""

from __future__ import annotations

import re
from typing import Any

from heimdall.errors import InvalidInput
from training.models import PageLayout

MOST_PANELS, KEY_LENGTH, MOST_PAGES = 60, 400, 200
_PAGE = re.compile(r"[a-z][\w:.-]{0,119}")


def layout_of(user: Any, page: str) -> list[str] | None:
    """The panels that the user chose for this page; None where it is as it comes."""
    return PageLayout.objects.filter(user=user.pk, page=page).values_list("panels", flat=True).first()


def keep_layout(page: str, panels: Any, *, by: Any) -> None:
    """Keep the panels for this page; None has it as it comes again."""
    if not _PAGE.fullmatch(page):
        raise InvalidInput({"page": ["There is no such page."]})
    if panels is None:
        PageLayout.objects.filter(user=by.pk, page=page).delete()
        return
    panels = _clean(panels)
    others = PageLayout.objects.filter(user=by.pk).exclude(page=page)
    if others.count() >= MOST_PAGES:
        others.order_by("pk")[0].delete()
    PageLayout.objects.update_or_create(user_id=by.pk, page=page, defaults={"panels": panels})


def _clean(panels: Any) -> list[str]:
    if not isinstance(panels, list) or not all(isinstance(key, str) for key in panels):
        raise InvalidInput({"panels": ["Give a list of names of metrics, or null."]})
    if len(panels) > MOST_PANELS or any(not key or len(key) > KEY_LENGTH for key in panels):
        raise InvalidInput({"panels": [f"At most {MOST_PANELS} panels, {KEY_LENGTH} characters each."]})
    if any("\x00" in key for key in panels):
        raise InvalidInput({"panels": ["A name of a metric has no control characters."]})
    return list(dict.fromkeys(panels))
