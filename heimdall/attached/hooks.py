"""The switch `hook`: a script that says nothing of Heimdall, whose Trainer is attached when it begins to train.

The frameworks' own doors let a callback in (`DEFAULT_CALLBACKS`, `callbacks_factory`), and a callback cannot exchange
the loader nor restore before the first batch. So the class's `train()` or `fit()` is replaced by one that first does
what `trainer = heimdall.attach(trainer)` would. The adapters refuse a version that they do not know.
"""

import importlib
import importlib.util
from collections.abc import Callable
from functools import wraps
from types import MethodType
from typing import Any

from heimdall.attached.attach import attach, attached_job
from heimdall.engine.errors import Refused

# Of each hook: the modules that may hold its Trainer, and the method by which that trains.
TRAINERS = {
    "hugging_face": (("transformers.trainer",), "train"),
    "lightning": (("lightning.pytorch", "pytorch_lightning"), "fit"),
}
ONE_TRAINER = (
    "heimdall: the hook has attached the first Trainer that trained; this one is neither saved nor stopped, and "
    "begins anew after a pause"
)


def install(hook: str) -> None:
    """Attach the first Trainer that trains in this process. Raises Refused where its framework is not installed."""
    modules, method = TRAINERS[hook]
    found = [name for name in modules if importlib.util.find_spec(name.partition(".")[0])]
    if not found:
        packages = " or ".join(name.partition(".")[0] for name in modules)
        raise Refused(
            "hook_not_found",
            f"The hook {hook} needs {packages} in the program's environment: install it there, or leave the "
            "hook out.",
        )
    for name in found:
        trainer_class = importlib.import_module(name).Trainer
        setattr(trainer_class, method, _attaching(getattr(trainer_class, method), method))


def _attaching(original: Callable[..., Any], method: str) -> Callable[..., Any]:
    first: list[Any] = []

    @wraps(original)
    def hooked(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        if attached_job() is None:
            first.append(trainer)
            # An adapter may put one of its own around it; a class derived from Trainer's is not entered twice.
            setattr(trainer, method, MethodType(original, trainer))
            attach(trainer)
            return vars(trainer).pop(method)(*args, **kwargs)
        if first and trainer is not first[0]:
            print(ONE_TRAINER, flush=True)
        return original(trainer, *args, **kwargs)

    return hooked
