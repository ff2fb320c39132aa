"""Begin a training with the state of another job: what is taken over, and where the new config has its say.

TRAINING takes over everything, the counts and generators too, and goes on at the checkpoint's step. The optimizer's
moments are the checkpoint's; its hyperparameters and the schedule are those of the new config.
WEIGHTS takes over the model's weights and the recipe's own parts, and begins at step 0 with all else new.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from heimdall.engine.assemble import Training
from heimdall.engine.ema import WeightAverage
from heimdall.engine.errors import Refused
from heimdall.engine.parts import OWN
from heimdall.engine.restore import restore
from heimdall.recipes.schedule import Schedule

TRAINING, WEIGHTS = "training", "weights"

_SET_BY_SCHEDULES = {"params", "lr", "initial_lr"}
_ASKED_OF_SCHEDULES = ("learning_rate", "lr_scheduler", "warmup_epochs")
# What counts in the state of torch's schedulers; all else of it was said when they were built.
_COUNTED = {"last_epoch", "_step_count", "_last_lr", "_is_initial", "_get_lr_called_within_step", "verbose",
            "best", "num_bad_epochs", "cooldown_counter", "_initial_step"}  # fmt: skip


def begin_with(
    training: Training,
    loaded: Mapping[str, Any],
    *,
    what: str,
    asked: Mapping[str, Any],
    before: Mapping[str, Any],
) -> None:
    """Load what is taken over. asked and before: the config of this training and that of the checkpoint."""
    if what == WEIGHTS:
        _begin_with_weights(training, loaded)
    else:
        _begin_with_training(training, loaded, asked, before)


def _begin_with_weights(training: Training, loaded: Mapping[str, Any]) -> None:
    wanted = {name: part for name, part in training.parts.items() if name == "model" or name.startswith(OWN)}
    taken = {name: part for name, part in wanted.items() if name == "model" or name in loaded}
    restore(taken, {name: loaded[name] for name in taken if name in loaded})
    average = training.parts.get("ema")
    if isinstance(average, WeightAverage):
        average.model.load_state_dict(training.loop.model.state_dict())


def _begin_with_training(
    training: Training, loaded: Mapping[str, Any], asked: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    parts: Any = training.parts
    hyperparameters = [
        {name: value for name, value in group.items() if name not in _SET_BY_SCHEDULES}
        for group in parts["optimizer"].param_groups
    ]
    if not isinstance(parts["scheduler"], Schedule):
        _refuse_what_its_schedule_ignores(parts["scheduler"], loaded, asked, before)
    restore(parts, loaded)
    for group, own in zip(parts["optimizer"].param_groups, hyperparameters, strict=True):
        group.update(own)


def _refuse_what_its_schedule_ignores(
    schedule: Any, loaded: Mapping[str, Any], asked: Mapping[str, Any], before: Mapping[str, Any]
) -> None:
    """A schedule of the recipe's own goes on with its state: what was asked of it anew would be ignored silently."""
    changed = [name for name in _ASKED_OF_SCHEDULES if name in before and asked.get(name) != before[name]]
    built, kept = (
        dict(_told_at_build(schedule.state_dict())),
        dict(_told_at_build(loaded.get("scheduler", {}))),
    )
    if not changed and asked.get("epochs") != before.get("epochs") and built != kept:
        changed = ["epochs"]
    if changed:
        raise Refused(
            "does_not_fit",
            f"The recipe has a learning rate schedule of its own, which goes on as its state says: the new "
            f"{' and '.join(changed)} would be ignored. Carry the weights alone, or leave it as it was.",
        )


def _told_at_build(state: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """What a scheduler was told when it was built, as leaves of its state."""
    if isinstance(state, Mapping):
        for key, value in state.items():
            if key not in _COUNTED:
                yield from _told_at_build(value, (*path, key))
    elif isinstance(state, list | tuple):
        for number, value in enumerate(state):
            yield from _told_at_build(value, (*path, number))
    elif isinstance(state, int | float | str | bool | None):
        yield path, state
