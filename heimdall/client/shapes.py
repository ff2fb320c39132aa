"""What the API shows, as typed values.

A field that a newer server adds stands in `raw` alone, which is the whole object as it came; one that an older server
lacks is None.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from typing_extensions import Self

from heimdall.client.errors import NotHeimdall

AT_REST = frozenset({"completed", "failed", "cancelled", "paused"})


@dataclass(frozen=True)
class ApiObject:
    """The base of the shapes."""

    raw: dict[str, Any] = field(repr=False, kw_only=True, default_factory=dict)

    @classmethod
    def of(cls, shown: Any) -> Self:
        """Raises NotHeimdall for what does not even have a number."""
        if not isinstance(shown, dict) or type(shown.get("id")) is not int:
            raise NotHeimdall(
                "The server answered with something that Heimdall does not say. Is the address right?"
            )
        known = {one.name: shown.get(one.name) for one in fields(cls) if one.name != "raw"}
        return cls(**known, raw=shown)


@dataclass(frozen=True)
class CheckpointFields(ApiObject):
    """A checkpoint, as docs/api.md describes it."""

    id: int
    job: int
    kinds: list[str]
    epoch: int
    step: int
    attempt: int
    size: int
    digest: str
    header_sha256: str
    val_loss: float | None
    pinned: bool
    quarantined_at: str | None
    quarantine_reason: str
    created_at: str


@dataclass(frozen=True)
class JobFields(ApiObject):
    """A job, as docs/api.md describes it."""

    id: int
    job_name: str
    description: str
    job_type: str
    recipe: str
    program: dict[str, Any] | None
    code: str | None
    promise: str
    evidence: str
    owner: str
    team: str | None
    parent: int | None
    origin: dict[str, Any] | None
    tags: list[str]
    dataset: str | None
    priority: int
    pool: str
    status: str
    stop: dict[str, str] | None
    headline: str
    waiting: dict[str, Any] | None
    phase: str
    attempt: int
    ranks: int
    rank_devices: list[dict[str, Any]]
    config: dict[str, Any]
    current_epoch: int
    total_epochs: int
    current_step: int
    total_steps: int | None
    progress_percent: float
    eta_seconds: float | None
    train_loss: float | None
    val_loss: float | None
    metrics: dict[str, Any]
    learning_rate: float | None
    best_epoch: int | None
    best_val_loss: float | None
    error_code: str
    error_message: str
    checkpoint: dict[str, Any] | None
    environment: dict[str, Any]
    approximate: list[str]
    event_seq: int
    heard_at: str | None
    created_at: str
    queued_at: str
    started_at: str | None
    completed_at: str | None
    updated_at: str
    verbs: list[str]

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing more happens to it unless somebody asks."""
        return self.status in AT_REST


@dataclass(frozen=True)
class Update:
    """One thing that happened to a job that is followed.

    `kind` says what `data` is: "job" (its fields changed), "event", "step", "epoch", "log" (a piece of text under
    `text`), "rollback" (what was said of later steps and epochs does not hold any more) or "restored" (the server was
    put back from a copy: forget everything).
    """

    kind: str
    data: dict[str, Any]


class MetricRows(list[dict[str, Any]]):
    """What was measured: one dict for each step or epoch, in order."""

    def column(self, name: str) -> list[Any]:
        """The values of one metric; None where a row has none."""
        return [row.get(name) for row in self]

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for row in self for name in row))

    def to_pandas(self) -> Any:
        """A DataFrame with the steps as its index. Needs pandas."""
        from heimdall.client.packages import required

        return required("pandas").DataFrame.from_records(list(self), index="step" if self else None)


def pairs(items: Iterable[str], *, field_name: str = "set") -> dict[str, Any]:
    """`epochs=20` as {"epochs": 20}: JSON where it is some, else text."""
    import json

    from heimdall.errors import InvalidInput

    found: dict[str, Any] = {}
    for item in items:
        name, sign, text = item.partition("=")
        if not sign or not name.strip():
            raise InvalidInput({field_name: [f"{item[:60]!r} is not of the form FIELD=VALUE."]})
        try:
            found[name.strip()] = json.loads(text)
        except (ValueError, RecursionError):
            found[name.strip()] = text
    return found
