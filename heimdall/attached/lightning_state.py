"""What Lightning would write to a checkpoint file, as a part."""

from typing import Any


class LightningPart:
    """What Lightning would write to a checkpoint file, but for the weights."""

    def __init__(self, trainer: Any, model: Any) -> None:
        self._trainer, self._model = trainer, model
        self.restored: dict[str, Any] | None = None
        """What was loaded, until Lightning has taken it."""
        self._batches_that_stepped: int | None = None

    def state_dict(self) -> dict[str, Any]:
        if self.restored is not None:
            return self.restored
        if self._trainer.lightning_module is None:  # it has not begun to fit
            return {}
        dumped = self._trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        # What the module was built with is the script's to say.
        left_out = ("state_dict", "hparams", "hyper_parameters", "datamodule_hparams")
        return {name: value for name, value in dumped.items() if not name.startswith(left_out)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.restored = state

    def left_out(self, fault: str, state: dict[str, Any]) -> dict[str, Any]:
        """For a restore that is broken on purpose: optimizers or schedules as they are built."""
        if fault == "optimizer":
            emptied = [each | {"state": {}} for each in state["optimizer_states"]]
            return state | {"optimizer_states": emptied}
        return state | {"lr_schedulers": []} if fault == "schedule" else state

    def take(self) -> dict[str, Any]:
        state, self.restored = self.restored, None
        assert state is not None
        self._batches_that_stepped = state["loops"]["fit_loop"]["epoch_loop.state_dict"][
            "_batches_that_stepped"
        ]
        return state | {"state_dict": self._model.state_dict()}

    def settle(self) -> None:
        """Undo what Lightning counts of its own at a restart: it takes it that the checkpoint was made in the last
        step's callbacks, before this was counted."""
        if self._batches_that_stepped is not None:
            self._trainer.fit_loop.epoch_loop._batches_that_stepped = self._batches_that_stepped
            self._batches_that_stepped = None
