"""Trainings that are stopped and resumed, each attempt in a new process, beside the same ones left undisturbed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.engine.attempts import Stop, Told, config_of, in_a_new_process, resumed_from, spec_of

# Three steps an epoch: groups of 3, 3 and 2 batches, the very last of them half as long.
BF16 = {
    "epochs": 4,
    "precision": "bf16",
    "grad_accumulation": 3,
    "warmup_epochs": 1,
    "ema_decay": 0.9,
    "early_stop_patience": 9,
}
FP16 = BF16 | {"precision": "fp16", "overflows": True, "optimizer": "adam"}
TWENTY = {"epochs": 20, "samples": 16, "worsens": True, "early_stop_patience": 25, "optimizer": "sgd"}
THIRTY = TWENTY | {"epochs": 30, "early_stop_patience": 35, "lr_scheduler": "constant", "warmup_epochs": 3}


@dataclass(frozen=True)
class Journey:
    config: dict[str, Any]
    stops: tuple[Stop, ...] = ()
    changes: Mapping[str, Any] | None = None
    """Fields of the disturbed training's config that must make no difference."""


JOURNEYS = {
    "bf16": Journey(BF16, (Stop(after_step=2), Stop(after_step=3), Stop(at_epoch=3))),
    "fp16": Journey(FP16, (Stop(after_step=4), Stop(at_epoch=2), Stop(after_step=8)), {"num_workers": 2}),
    "paused at epoch 2 of 20": Journey(TWENTY, (Stop(at_epoch=2),)),
    "paused at epoch 10 of 20": Journey(TWENTY, (Stop(at_epoch=10),)),
    "paused at epoch 18 of 20": Journey(TWENTY, (Stop(at_epoch=18),)),
    "paused at epochs 5, 12 and 20 of 30": Journey(
        THIRTY, (Stop(at_epoch=5), Stop(at_epoch=12), Stop(at_epoch=20))
    ),
    "stopped before the first step": Journey(BF16, (Stop(after_step=-1),)),
    "stopped during validation, twice": Journey(BF16, (Stop(in_validation=2), Stop(in_validation=2))),
    "stopped in the last epoch": Journey(BF16, (Stop(after_step=11),)),
    "stopped after the very last step": Journey(BF16, (Stop(after_step=12),)),
    "checkpoints by the minute": Journey(BF16, (), {"checkpoint_every_minutes": 1e-9, "keep_best": 0}),
    "checkpoints by the epoch": Journey(BF16, (), {"checkpoint_every_epochs": 2, "num_workers": 1}),
}


@dataclass(frozen=True)
class Travelled:
    """All attempts of a journey, and the one attempt that was not disturbed."""

    attempts: list[Told]
    undisturbed: Told


def travel(journeys: Mapping[str, Journey], folder: Path, **spec: Any) -> dict[str, Travelled]:
    """One new process for the undisturbed ones and the first attempts; one more for each further attempt."""
    configs = {repr(journey.config): journey.config for journey in journeys.values()}
    alone = [
        (spec_of(folder / f"alone-{number}", config_of(**config), **spec), None)
        for number, config in enumerate(configs.values())
    ]
    told: dict[str, list[Told]] = {name: [] for name in journeys}
    undisturbed: dict[str, Told] = {}
    for turn in range(1 + max(len(journey.stops) for journey in journeys.values())):
        going = [name for name, journey in journeys.items() if len(journey.stops) >= turn]
        attempts = [_attempt(journeys[name], told[name], folder / name / str(turn), spec) for name in going]
        found = in_a_new_process([*attempts, *(alone if turn == 0 else [])])
        for name, each in zip(going, found, strict=False):
            told[name].append(each)
        if turn == 0:
            undisturbed = dict(zip(configs, found[len(going) :], strict=True))
    return {
        name: Travelled(told[name], undisturbed[repr(journey.config)]) for name, journey in journeys.items()
    }


def _attempt(
    journey: Journey, before: list[Told], folder: Path, spec: dict[str, Any]
) -> tuple[Any, Stop | None]:
    turn = len(before)
    config = config_of(**(journey.config | (journey.changes or {})))
    start = resumed_from(before[-1].last_staged) if before else {}
    stop = journey.stops[turn] if turn < len(journey.stops) else None
    return spec_of(folder, config, **(spec | start)), stop


def differences(travelled: Travelled) -> list[str]:
    """Everything in which the attempts together differ from the undisturbed one."""
    from heimdall import codec
    from tests.engine.sameness import difference

    attempts, alone = travelled.attempts, travelled.undisturbed
    found = []
    final, wanted = attempts[-1].last_staged, alone.last_staged
    if final.digest != wanted.digest:
        found.append("the digests differ")
    found.append(difference(codec.load(final.path)[0], codec.load(wanted.path)[0]))
    if repr([row for told in attempts for row in told.rows]) != repr(alone.rows):
        found.append("the steps differ")
    if repr([each for told in attempts for each in told.of("epoch")]) != repr(alone.of("epoch")):
        found.append("the epochs differ")
    return [text for text in found if text]
