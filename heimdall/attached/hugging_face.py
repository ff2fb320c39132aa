"""A Hugging Face Trainer as a job: `trainer = heimdall.attach(trainer)`, then `trainer.train()` as ever.

transformers reads an epoch's batches by groups of gradient accumulation, so a boundary is where it asks for the first
batch of a group: the step before, its schedule, its log, its evaluation and its own checkpoint are done by then. A
resume builds everything, then enters the epoch where it was left. Its own way of skipping reads the data again and
restores generators after the first batch was fetched; four private methods are replaced for that, and
`REPLACED` is what a test compares with the installed version.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from heimdall.attached.hugging_face_state import SPEED, TrainerPart
from heimdall.attached.loop import Job

TESTED = "5.24"
REPLACED = ("_init_training_state", "_prepare_for_training", "_run_epoch", "_load_rng_state")
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
        trainer._load_rng_state = lambda checkpoint: None  # the job restores generators, before any batch
        trainer.args.ignore_data_skip = False  # an epoch is entered where it was left
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
        with _nothing_read_to_skip():
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


def _callback_class() -> type:
    from transformers import TrainerCallback

    class HeimdallCallback(TrainerCallback):  # type: ignore[misc]
        """Passes on what the trainer logs."""

        def __init__(self, job: Job, state: TrainerPart) -> None:
            self._job, self._state = job, state

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._state.settle()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            numbers = {name: value for name, value in (logs or {}).items() if _is_value(name, value)}
            of_eval = {name: value for name, value in numbers.items() if name.startswith("eval_")}
            self._job.log_to_epoch(
                **{f"val_{name.removeprefix('eval_')}": value for name, value in of_eval.items()}
            )
            self._job.log(**{name: value for name, value in numbers.items() if name not in of_eval})

    return HeimdallCallback


def _is_value(name: str, value: Any) -> bool:
    """Whether two trainings agree on it, and a row does not have it anyway."""
    is_number = isinstance(value, int | float)
    return is_number and not SPEED.search(name) and name not in ("epoch", "train_loss")


@contextmanager
def _nothing_read_to_skip() -> Iterator[None]:
    """transformers skips by reading; the job's batches begin where they are to begin."""
    from transformers import trainer

    original = trainer.skip_first_batches
    trainer.skip_first_batches = lambda loader, count=0: (
        loader if isinstance(loader, TrainingBatches) else original(loader, count)
    )
    try:
        yield
    finally:
        trainer.skip_first_batches = original
