"""When a step was made, and what a script logged of it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Value = float | int | bool | Tensor | None
ROW_NAMES = frozenset({"step", "epoch"})


class StepCounter:
    """Notices that an optimizer stepped, or that a gradient scaler left its step out."""

    def __init__(self) -> None:
        self._is_watching = False
        self._has_stepped = False

    def watch(self, part: Any) -> None:
        inner = getattr(part, "optimizer", None)  # Accelerate's, around torch's
        part = inner if isinstance(part, Optimizer) and isinstance(inner, Optimizer) else part
        if isinstance(part, Optimizer):
            part.register_step_post_hook(self._on_step)
        elif isinstance(part, torch.amp.GradScaler):
            # A step that is left out reaches no optimizer, and counts all the same.
            made = part.step
            part.step = lambda *args, **kwargs: self._after(made(*args, **kwargs))  # type: ignore[method-assign]
        else:
            return
        self._is_watching = True

    def take(self) -> bool:
        """Whether the body that is over made a step. Where nothing can be watched, each body is one."""
        has_stepped, self._has_stepped = self._has_stepped, False
        return has_stepped or not self._is_watching

    def _on_step(self, *_: Any) -> None:
        self._has_stepped = True

    def _after(self, result: Any) -> Any:
        self._has_stepped = True
        return result


class Logged:
    """What `job.log` was given: rows of finished steps, and means over the epoch under way, which survive a pause.

    Tensors on a device are read late, many at once, so that no step waits for it. Names and values stand in one flat
    list for each step: this is done a thousand times a second.
    """

    def __init__(self) -> None:
        self._now: list[Any] = []
        self._unread: list[tuple[int, int, list[Any]]] = []
        self._rows: list[dict[str, Any]] = []
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}
        self.of_epoch: dict[str, float | None] = {}

    def add(self, values: Mapping[str, Value]) -> None:
        for name, value in values.items():
            self._now += (name, _kept(name, value))

    def add_to_epoch(self, values: Mapping[str, Value]) -> None:
        """Values of a whole epoch, such as of its validation."""
        for name, value in values.items():
            kept = _kept(name, value)
            self.of_epoch[name] = kept if kept is None else float(kept)

    def close_step(self, step: int, epoch: int) -> None:
        """What was logged since the last step is of this one. Several values of a name are averaged."""
        self._unread.append((step, epoch, self._now))
        self._now = []

    def take_rows(self) -> list[dict[str, Any]]:
        """The rows of the steps since the last call."""
        self._read()
        rows, self._rows = self._rows, []
        return rows

    def close_epoch(self) -> dict[str, float | None]:
        """The epoch's own values over the means of its steps, which are called train_..."""
        self._read()
        means = {f"train_{name}": total / self.counts[name] for name, total in self.sums.items()}
        values = means | self.of_epoch
        self.sums, self.counts, self.of_epoch = {}, {}, {}
        return values

    def state_dict(self) -> dict[str, Any]:
        self._read()
        return {"sums": dict(self.sums), "counts": dict(self.counts), "of_epoch": dict(self.of_epoch)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])
        self.of_epoch = dict(state["of_epoch"])

    def _read(self) -> None:
        unread, self._unread = self._unread, []
        values = iter(_as_floats([value for _, _, now in unread for value in now[1::2]]))
        for step, epoch, now in unread:
            row: dict[str, Any] = {"step": step, "epoch": epoch}
            by_name: dict[str, list[float | None]] = {}
            for name in now[::2]:
                by_name.setdefault(name, []).append(next(values))
            for name, each in by_name.items():
                row[name] = value = _mean(each)
                if value is not None:
                    self.sums[name] = self.sums.get(name, 0.0) + value
                    self.counts[name] = self.counts.get(name, 0) + 1
            self._rows.append(row)


def _mean(values: list[float | None]) -> float | None:
    if len(values) == 1:
        return values[0]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _kept(name: str, value: Any) -> Value:
    if name in ROW_NAMES:
        raise ValueError(f"job.log() was given {name!r}, which every row has: call it otherwise")
    if isinstance(value, Tensor):
        return _kept_tensor(name, value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        return float(value.item())
    raise TypeError(
        f"job.log({name}=...) was given a {type(value).__name__}: give a number or a tensor of one value"
    )


def _kept_tensor(name: str, value: Tensor) -> Value:
    """As it is now. On a device a copy is made only of what may be changed in place before it is read."""
    if value.numel() != 1 or value.is_complex():
        raise TypeError(
            f"job.log({name}=...) was given a tensor of shape {tuple(value.shape)} and {value.dtype}: give one number"
        )
    if value.is_cpu:
        return value.item()
    is_fresh = value.grad_fn is not None and not value._version
    return value.detach() if is_fresh else value.detach().clone()


def _as_floats(values: list[Value]) -> list[float | None]:
    """Their numbers, with one wait for the device."""
    on_device = [value for value in values if isinstance(value, Tensor) and not value.is_cpu]
    if not on_device:
        return [None if value is None else float(value) for value in values]
    read = iter(torch.stack([value.to(torch.float64).reshape(()) for value in on_device]).tolist())
    return [
        next(read)
        if isinstance(value, Tensor) and not value.is_cpu
        else None
        if value is None
        else float(value)
        for value in values
    ]
