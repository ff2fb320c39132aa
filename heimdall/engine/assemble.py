"""Build a training from a recipe and its config, and name the parts that must survive."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from heimdall.engine import data as data_module
from heimdall.engine.ema import WeightAverage
from heimdall.engine.loop import Loop
from heimdall.engine.module_state import ModuleState, TrainingModes
from heimdall.engine.parts import BUFFERS, GENERATORS, MODULES, PassingBuffers, own_parts, require_part
from heimdall.engine.progress import Best, EarlyStopping, Position, Progress
from heimdall.engine.ranks import Ranks
from heimdall.engine.rng import seed_all
from heimdall.engine.strategies import Strategy, chosen
from heimdall.recipes.base import Part, Plan, Samples, TrainingRecipe
from heimdall.recipes.schedule import Schedule

SGD_MOMENTUM = 0.9
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Training:
    loop: Loop
    plan: Plan
    parts: dict[str, Part]
    """In the order in which they are loaded: the generators last."""
    parameters: int
    fingerprint: str
    modules: ModuleState

    @property
    def learning_rate(self) -> float:
        """What the optimizer takes its next step with, whatever was asked for."""
        return float(self.parts["optimizer"].param_groups[0]["lr"])  # type: ignore[attr-defined]


def assemble(
    recipe: TrainingRecipe,
    *,
    device: torch.device | str = "cpu",
    worker_setup: Callable[[int], None] | None = None,
    ranks: Ranks | None = None,
) -> Training:
    """ranks: those of which this process is one."""
    config = recipe.config
    device = torch.device(device)
    strategy = chosen(config, ranks)
    seed_all(config.seed)
    training, validation = _samples(recipe)
    data = _data(recipe, training, validation, strategy, worker_setup=worker_setup, device=device)
    steps = data.steps_per_epoch
    plan = Plan(config.epochs, steps, config.warmup_epochs * steps)

    model = recipe.model().to(device)
    strategy.prepare(model, recipe, device)
    modes = TrainingModes(model)
    optimizer = recipe.optimizer(model) or _optimizer(config, model)
    scheduler = recipe.scheduler(optimizer, plan) or Schedule(optimizer, plan, kind=config.lr_scheduler)
    require_part(scheduler, "what scheduler() gives")
    each_step, each_epoch = _when_to_step(scheduler, optimizer)
    scaler = torch.amp.GradScaler(device.type) if config.precision == "fp16" else None
    average = WeightAverage(model, decay=config.ema_decay) if config.ema_decay else None
    progress, position, best = Progress(), Position(), Best()
    totals = strategy.totals()
    early_stopping = EarlyStopping(patience=config.early_stop_patience, delta=config.early_stop_delta)
    generators = strategy.generators(device)

    parts: dict[str, Part] = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    optional = {"scaler": scaler, "ema": average}
    parts |= {name: part for name, part in optional.items() if part is not None}
    models = {"model": model} if average is None else {"model": model, "ema": average.model}
    passing = PassingBuffers(models)
    if passing:
        parts[BUFFERS] = passing
    modules = ModuleState(models)
    parts[MODULES] = modules
    parts |= own_parts(recipe.parts())
    parts |= {"progress": progress, "position": position, "totals": totals, "best": best}
    parts |= {"early_stopping": early_stopping, GENERATORS: generators}

    step = strategy.step(
        model,
        optimizer,
        each_step,
        recipe.loss,
        progress=progress,
        totals=totals,
        autocast=_autocast(config, device),
        scaler=scaler,
        average=average,
        max_grad_norm=config.max_grad_norm,
        watched=parts,
    )
    validation_pass = strategy.validation(
        model if average is None else average.model,
        data,
        recipe.evaluation,
        generators,
        seed=config.seed,
        modes=modes if average is None else None,
        autocast=_autocast(config, device),
    )
    strategy.seed(config.seed)
    loop = Loop(
        model, step, validation_pass, data, progress, position, totals, best, early_stopping, each_epoch
    )
    parameters = sum(weight.numel() for weight in model.parameters())
    return Training(
        loop, plan, strategy.as_saved(parts), parameters, recipe.fingerprint(training, validation), modules
    )


def _data(
    recipe: TrainingRecipe,
    training: Samples,
    validation: Samples | None,
    strategy: Strategy,
    *,
    worker_setup: Callable[[int], None] | None,
    device: torch.device,
) -> data_module.Data:
    data = data_module.build_data(
        recipe,
        training,
        validation,
        worker_setup=worker_setup,
        device=device,
        shares=strategy.shares,
        processes=strategy.processes,
    )
    if not data.batches_per_epoch:
        raise ValueError(_why_no_batch(recipe.config, len(training)))
    return data


def _why_no_batch(config: Any, samples: int) -> str:
    if not samples:
        return "there are no training samples"
    return (
        f"drop_last leaves out the only batch: there are {samples} training samples, and batch_size is "
        f"{config.batch_size}. Set drop_last to false, or a smaller batch_size"
    )


def _samples(recipe: TrainingRecipe) -> tuple[Samples, Samples | None]:
    training, validation = recipe.training_samples(), recipe.validation_samples()
    if validation is not None:
        return training, validation
    return data_module.split(training, share=recipe.config.validation_split, seed=recipe.config.seed)


def _optimizer(config: Any, model: nn.Module) -> Optimizer:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    if config.optimizer == "sgd":
        return SGD(weights, config.learning_rate, momentum=SGD_MOMENTUM, weight_decay=config.weight_decay)
    kind = {"adam": Adam, "adamw": AdamW}[config.optimizer]
    return kind(weights, config.learning_rate, weight_decay=config.weight_decay)


class _NoSchedule:
    def step(self) -> None:
        pass


def _when_to_step(scheduler: Any, optimizer: Optimizer) -> tuple[Any, Any | None]:
    if isinstance(scheduler, ReduceLROnPlateau):
        return _NoSchedule(), scheduler
    if isinstance(scheduler, LRScheduler):
        # Its warning that no step was made yet is wrong where the scaler skipped the first one.
        optimizer._opt_called = True  # type: ignore[attr-defined]
    return scheduler, None


def _autocast(config: Any, device: torch.device) -> AbstractContextManager[Any] | None:
    if config.precision == "fp32":
        return None
    return torch.autocast(device.type, dtype=AUTOCAST[config.precision])
