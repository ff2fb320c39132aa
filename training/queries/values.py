"""Values as every door shows them."""

from __future__ import annotations

import math
from datetime import datetime


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def iso(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment else None
