"""What of an attached script must survive a pause, beside what the script itself names."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)  # each is itself, however far it has come
class Call:
    """One `job.batches(...)` of the epoch under way."""

    batches: int = 0
    is_over: bool = False


@dataclass
class ScriptPosition:
    """Where a script is: its epoch, and how far each of its calls of `job.batches` in that epoch has come.

    A script that is started again runs its epoch's body from the top: calls that were over give nothing, and the one
    under way goes on after its last finished batch.
    """

    epoch: int = 0
    steps: int = 0
    steps_before_epoch: int = 0
    calls: list[Call] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        calls = [[call.batches, call.is_over] for call in self.calls]
        return {
            "epoch": self.epoch,
            "steps": self.steps,
            "steps_before": self.steps_before_epoch,
            "calls": calls,
        }

    def next_epoch(self) -> None:
        self.epoch += 1
        self.steps_before_epoch, self.calls = self.steps, []

    def left_out(self, fault: str, state: dict[str, Any]) -> dict[str, Any]:
        """For a restore that is broken on purpose: the epoch's calls begin anew."""
        if fault != "position":
            return state
        return state | {
            "calls": [[0 if not is_over else batches, is_over] for batches, is_over in state["calls"]]
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.steps = state["epoch"], state["steps"]
        self.steps_before_epoch = state["steps_before"]
        self.calls = [Call(batches, is_over) for batches, is_over in state["calls"]]


class Values:
    """Locals of a script that survive a pause: `best = job.values(best=9e9)`, then `best.best = min(...)`."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class Config(dict[str, Any]):
    """What was asked for a job, over the script's defaults: by name and by attribute."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(
                f"the config has no {name!r}; it has {', '.join(self) or 'nothing'}"
            ) from None


class Sources:
    """What the loaders of a script were read through, and their states, by the call of an epoch that uses them."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, Any]] = {}
        self._restored: dict[int, Any] = {}

    def of(self, loader: Any, call: int, make: Callable[[], Any]) -> Any:
        """The source of this loader; a new one where a script makes a loader for each epoch."""
        for known, source in self._made.values():
            if known is loader:
                return source
        source = make()
        if call in self._restored:
            source.load_state_dict(self._restored.pop(call))
        self._made[call] = (loader, source)
        return source

    def why_approximate(self) -> list[str]:
        return [source.why_approximate for _, source in self._made.values() if source.why_approximate]

    def state_dict(self) -> dict[str, Any]:
        """What was restored for loaders that were not used again yet stays."""
        now = {call: source.state_dict() for call, (_, source) in self._made.items()}
        return {"loaders": dict(sorted((self._restored | now).items()))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._restored = dict(state["loaders"])
