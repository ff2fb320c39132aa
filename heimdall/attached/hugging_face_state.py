"""What a Hugging Face Trainer and its callbacks count, as a part."""

import re
from dataclasses import asdict
from typing import Any

# They say how fast it was: no two trainings agree on them.
SPEED = re.compile(r"runtime|per_second|memory|flos|_mem_")
# Of a TrainerState, what a config says anew.
_OF_THE_CONFIG = {
    "max_steps", "num_train_epochs", "logging_steps", "eval_steps", "save_steps", "train_batch_size",
    "is_local_process_zero", "is_world_process_zero", "is_hyper_param_search", "trial_name", "trial_params",
    "stateful_callbacks",
}  # fmt: skip


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


def _without_speed(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if not SPEED.search(name)}
