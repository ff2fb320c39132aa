"""A Lightning Trainer as a job: `trainer = heimdall.attach(trainer)`, then `trainer.fit(...)` as ever.

Lightning asks its loader for the next batch when the step before, its schedule, its validation and its callbacks are
done: that is the boundary, also before an epoch's first batch. The module is a part like any. What else its own
checkpoint holds (optimizers, schedulers, callbacks, the progress of its loops) is another; a resume hands both to
Lightning as the checkpoint that it loads. That holds neither generators nor a position in the data: those are the
job's.

Private and guarded by a test: `fit_loop.setup_data`, `_combined_loader`, `_data_fetcher`, and the connector's
`dump_checkpoint`.
"""

from collections.abc import Iterator
from typing import Any

from heimdall.attached.lightning_state import LightningPart
from heimdall.attached.loop import MOST_EPOCHS, Job

TESTED = "2.6"
PACKAGES = ("lightning", "pytorch_lightning")
_RESUMED = "heimdall"  # in the place of a checkpoint's path


def attach_trainer(trainer: Any, job: Job) -> Any:
    """Make the trainer's `fit()` the job's. Returns the trainer. Raises RuntimeError for a version not known."""
    package = __import__(_package_of(trainer))
    if not package.__version__.startswith(f"{TESTED}."):
        raise RuntimeError(
            f"heimdall.attach(trainer) knows Lightning {TESTED}, and {package.__version__} is installed: install "
            f"lightning=={TESTED}.6, or write the loop with job.epochs() and job.batches()"
        )
    trainer.callbacks.append(_callback_class(trainer)(job))
    trainer.fit = _fit(trainer, job)
    return trainer


def _package_of(trainer: Any) -> str:
    """Lightning goes by two names; a class of the script's own may be derived from either's Trainer."""
    names = [base.__module__.partition(".")[0] for base in type(trainer).__mro__]
    return next(name for name in names if name in PACKAGES)


def _fit(trainer: Any, job: Job) -> Any:
    original = trainer.fit

    def fit(model: Any, *args: Any, **kwargs: Any) -> Any:
        if type(model).__dict__.get("configure_model"):
            raise RuntimeError(
                "heimdall.attach(trainer) restores a module before it is fitted: build its layers in __init__ "
                "instead of in configure_model"
            )
        part = LightningPart(trainer, model)
        job.keep(model=model, lightning=part)
        trainer.fit_loop.setup_data = _setup_data(trainer.fit_loop, job, part)
        trainer.strategy.training_step = _logging_the_loss(trainer.strategy.training_step, job)
        job.begin(total_epochs=trainer.max_epochs if (trainer.max_epochs or -1) > 0 else MOST_EPOCHS)
        if part.restored is not None:
            kwargs["ckpt_path"] = _RESUMED
            load = trainer.strategy.load_checkpoint
            trainer.strategy.load_checkpoint = lambda path, *rest, **options: (
                part.take() if path == _RESUMED else load(path, *rest, **options)
            )
        return original(model, *args, **kwargs)

    return fit


def _logging_the_loss(training_step: Any, job: Job) -> Any:
    """Costs less than a hook of a callback, and the loss is not yet divided by the batches that are accumulated."""
    log_to_step = job.logged.add

    def logging_training_step(*args: Any, **kwargs: Any) -> Any:
        outputs = training_step(*args, **kwargs)
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if loss is not None:
            log_to_step({"loss": loss})
        return outputs

    return logging_training_step


def _setup_data(fit_loop: Any, job: Job, part: LightningPart) -> Any:
    original = fit_loop.setup_data

    def setup_data() -> None:
        original()
        combined = fit_loop._combined_loader
        if combined is None or any(isinstance(one, EpochBatches) for one in combined.flattened):
            return
        if len(combined.flattened) > 1:
            raise RuntimeError(
                "heimdall.attach(trainer) reads one training loader: combine the datasets instead of the loaders"
            )
        if fit_loop._data_fetcher.length is None:
            raise RuntimeError(
                "heimdall.attach(trainer) reads a training loader that has a length: of one without, Lightning "
                "reads a batch ahead of the step under way"
            )
        combined.flattened = [EpochBatches(job, part, one) for one in combined.flattened]
        fit_loop._data_fetcher.setup(combined)
        iter(fit_loop._data_fetcher)

    return setup_data


class EpochBatches:
    """The training loader, read through the job. Whatever else is asked of it, the loader answers."""

    def __init__(self, job: Job, part: LightningPart, loader: Any) -> None:
        self._job, self._part, self._loader = job, part, loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        self._part.settle()  # as late as this: Lightning has made its loops ready for a restart by now
        yield from self._job.read(self._loader, begins_at_a_boundary=True)

    def __getattr__(self, name: str) -> Any:
        if name in ("state_dict", "load_state_dict"):
            raise AttributeError(name)  # the position is the job's
        return getattr(self._loader, name)


def _callback_class(trainer: Any) -> type:
    package = _package_of(trainer)
    module = __import__(f"{package}.pytorch" if package == "lightning" else package, fromlist=["Callback"])

    class HeimdallEpochs(module.Callback):  # type: ignore[misc, name-defined]
        """Closes the job's epochs, with what was logged of them. The last of the callbacks."""

        # Lightning calls each hook of each callback within its profiler, empty ones too, and skips what is None.
        on_train_batch_start = on_train_batch_end = on_before_zero_grad = on_before_backward = None
        on_after_backward = on_before_optimizer_step = None

        def __init__(self, job: Job) -> None:
            self._job = job

        def on_train_start(self, trainer: Any, module: Any) -> None:
            for optimizer in trainer.optimizers:
                self._job.watch(optimizer)

        def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
            values = {name: value for name, value in trainer.callback_metrics.items() if value.numel() == 1}
            self._job.log_to_epoch(**values)
            self._job.close_epoch(is_boundary=False)

    return HeimdallEpochs
