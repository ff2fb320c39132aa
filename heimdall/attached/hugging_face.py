"""A Hugging Face Trainer as a job: `trainer = heimdall.attach(trainer)`, then `trainer.train()` as ever.

transformers reads an epoch's batches by groups of gradient accumulation, so a boundary is where it asks for the first
batch of a group: the step before, its schedule, its log, its evaluation and its own checkpoint are done by then. A
resume builds everything, then enters the epoch where it was left. Its own way of skipping reads the data again and
restores generators after the first batch was fetched; four private methods are replaced for that, and
`REPLACED` is what a test compares with the installed version.
"""

import re
from collections.abc import Iterator
from dataclasses import asdict
from functools import wraps
from typing import Any

from heimdall.attached.loop import Job

TESTED = "5.24"
REPLACED = ("_init_training_state", "_prepare_for_training", "_run_epoch", "_load_rng_state")
# They say how fast it was: no two trainings agree on them.
_SPEED = re.compile(r"runtime|per_second|memory|flos|_mem_")
# Of a TrainerState, what a config says anew.
_OF_THE_CONFIG = {
    "max_steps", "num_train_epochs", "logging_steps", "eval_steps", "save_steps", "train_batch_size",
    "is_local_process_zero", "is_world_process_zero", "is_hyper_param_search", "trial_name", "trial_params",
    "stateful_callbacks",
}  # fmt: skip
_RESUMED = "heimdall"  # in the place of the name of a checkpoint folder


def attach_trainer(trainer: Any, job: Job) -> Any:
    """Make the trainer's `train()` the job's. Returns the trainer. Raises RuntimeError for a version not known."""
    import transformers

    if not transformers.__version__.startswith(f"{TESTED}."):
        raise RuntimeError(
            f"heimdall.attach(trainer) knows transformers {TESTED}, and {transformers.__version__} is installed: "
            f"install transformers=={TESTED}.0, or write the loop with job.epochs() and job.batches()"
        )
    _Adapter(trainer, job).install()
    return trainer


class _Adapter:
    def __init__(self, trainer: Any, job: Job) -> None:
        self._trainer, self._job = trainer, job
        self._state = TrainerPart(trainer)
        self._is_first_epoch = True

    def install(self) -> None:
        trainer = self._trainer
        for name in ("get_train_dataloader", "_init_training_state", "_prepare_for_training", "_run_epoch"):
            setattr(trainer, name, wraps(getattr(trainer, name))(self._around(name, getattr(trainer, name))))
        trainer._load_rng_state = lambda checkpoint: (
            None
        )  # the job's generators are restored before any batch
        trainer.add_callback(_callback_class()(self._job, self._state))

    def _around(self, name: str, original: Any) -> Any:
        return lambda *args, **kwargs: getattr(self, f"around_{name.strip('_')}")(original, *args, **kwargs)

    def around_get_train_dataloader(self, original: Any) -> Any:
        loader = original()
        return TrainingBatches(self._job, getattr(loader, "base_dataloader", loader))

    def around_init_training_state(self, original: Any, *args: Any, **kwargs: Any) -> tuple[int, int]:
        epochs, batches = original(*args, **kwargs)
        return max(epochs, self._job.resumes_in_epoch), batches

    def around_prepare_for_training(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        prepared = original(*args, **kwargs)
        trainer = self._trainer
        self._job.keep(
            model=trainer.model,
            optimizer=getattr(trainer.optimizer, "optimizer", trainer.optimizer),
            scheduler=trainer.lr_scheduler,
            scaler=getattr(trainer.accelerator, "scaler", None),
            trainer=self._state,
        )
        self._job.begin(total_epochs=trainer.state.num_train_epochs)
        return prepared

    def around_run_epoch(self, original: Any, **kwargs: Any) -> None:
        done = self._job.position.calls[0].batches if self._job.position.calls else 0
        if self._is_first_epoch and done:
            # Enters the epoch after so many batches, with counters as they were.
            kwargs |= {
                "resume_from_checkpoint": _RESUMED,
                "epochs_trained": kwargs["epoch"],
                "steps_trained_in_current_epoch": done,
            }
        self._is_first_epoch = False
        with _nothing_is_read_to_skip():
            original(**kwargs)
        self._job.close_epoch()


class TrainingBatches:
    """The trainer's loader, read through the job. Whatever else is asked of it, the loader answers."""

    def __init__(self, job: Job, loader: Any) -> None:
        self._job, self._loader = job, loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        return self._job.batches(self._loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


class TrainerPart:
    """What a Trainer and its callbacks count. It sets some of it only after its own preparations."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._pending: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        if self._pending is not None:
            return self._pending
        trainer = self._trainer
        counted = {name: value for name, value in asdict(trainer.state).items() if name not in _OF_THE_CONFIG}
        counted["log_history"] = [_without_speed(entry) for entry in counted["log_history"]]
        return {
            "state": counted,
            "loss": getattr(trainer, "_tr_loss", None),
            "total_loss": getattr(trainer, "_total_loss_scalar", 0.0),
            "last_logged": getattr(trainer, "_globalstep_last_logged", 0),
            "first_step": getattr(trainer, "_initial_global_step", 0),
            "flos": float(trainer.current_flos),
            "callbacks": {type(one).__name__: one.state()["attributes"] for one in self._stateful()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state["state"].items():
            setattr(self._trainer.state, name, value)
        self._trainer.current_flos = state["flos"]
        for callback in self._stateful():
            for name, value in state["callbacks"].get(type(callback).__name__, {}).items():
                setattr(callback, name, value)
        self._pending = state

    def settle(self) -> None:
        """The trainer is about to train: what it has just set to zero becomes what it was."""
        if self._pending is None:
            return
        trainer, state = self._trainer, self._pending
        if state["loss"] is not None:
            trainer._tr_loss.copy_(state["loss"])
        trainer._total_loss_scalar = state["total_loss"]
        trainer._globalstep_last_logged = state["last_logged"]
        trainer._initial_global_step = state["first_step"]
        self._pending = None

    def _stateful(self) -> list[Any]:
        from transformers.trainer_callback import ExportableState, TrainerCallback

        each = self._trainer.callback_handler.callbacks
        return [one for one in each if isinstance(one, ExportableState) and isinstance(one, TrainerCallback)]


def _callback_class() -> type:
    from transformers import TrainerCallback

    class HeimdallCallback(TrainerCallback):  # type: ignore[misc]
        """Passes on what the trainer logs."""

        def __init__(self, job: Job, state: TrainerPart) -> None:
            self._job, self._state = job, state

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._state.settle()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            numbers = {
                name: value
                for name, value in (logs or {}).items()
                if isinstance(value, int | float)
                and not _SPEED.search(name)
                and name not in ("epoch", "train_loss")
            }
            self._job.log_to_epoch(
                **{
                    f"val_{name.removeprefix('eval_')}": value
                    for name, value in numbers.items()
                    if _is_eval(name)
                }
            )
            self._job.log(**{name: value for name, value in numbers.items() if not _is_eval(name)})

    return HeimdallCallback


def _without_speed(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if not _SPEED.search(name)}


def _is_eval(name: str) -> bool:
    return name.startswith("eval_")


class _nothing_is_read_to_skip:
    """transformers skips by reading; the job's batches begin where they are to begin."""

    def __enter__(self) -> None:
        from transformers import trainer

        self._module, self._original = trainer, trainer.skip_first_batches
        trainer.skip_first_batches = lambda loader, count=0: (
            loader if isinstance(loader, TrainingBatches) else self._original(loader, count)
        )

    def __exit__(self, *_: Any) -> None:
        self._module.skip_first_batches = self._original
