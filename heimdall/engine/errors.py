"""How a training may end badly, in a sentence for the reader and a code for programs."""

import re
from collections.abc import Mapping
from typing import Any

import torch

OUT_OF_MEMORY = "out_of_memory"

# Where torch has no class of its own for it: of the CPU's memory, of pinned memory, of CUDA's libraries.
_NO_MEMORY = re.compile(r"DefaultCPUAllocator|out of memory|_STATUS_ALLOC_FAILED")
_NOT_REPEATABLE = re.compile(
    r"does not have a deterministic implementation|this operation is not deterministic"
)
_LOADER_WORKER_DIED = re.compile(r"DataLoader worker \(pid.*(exited unexpectedly|killed by signal)")
# What a rank finds where another one has ended: the cause is told by that one, or by the signal that ended it.
_RANK_GONE = re.compile(
    r"gloo/transport|Connection (closed|reset) by peer|NCCL (error|communicator)|ProcessGroup"
)
_ONE_VALUE_FOR_A_NORM = "Expected more than 1 value per channel when training"


class Refused(ValueError):
    """What the engine will not do."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Crashed(Exception):
    """Something gave way that is not the recipe's fault: the attempt counts as a crash, and another one is made."""


def code_of(error: BaseException) -> str | None:
    """What to call the failure; None for a crash."""
    if isinstance(error, Refused):
        return error.code
    if isinstance(error, Crashed) or _LOADER_WORKER_DIED.search(_text_of(error)) or _is_of_a_lost_rank(error):
        return None
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return OUT_OF_MEMORY
    if isinstance(error, RuntimeError) and _NO_MEMORY.search(_text_of(error)):
        return OUT_OF_MEMORY
    return "recipe_error"


def sentence_of(error: BaseException, code: str, config: Mapping[str, Any]) -> str:
    """What a person reads, with the setting that mends it."""
    if isinstance(error, Refused):
        return str(error)
    if isinstance(error, SystemExit):
        how = "exit without an error" if error.code in (None, 0) else _text_of(error)
        return f"The recipe ended the process by itself (SystemExit): {how}"
    message = f"{type(error).__name__}: {_text_of(error)}".removesuffix(": ")
    if code == OUT_OF_MEMORY and "batch_size" in config:
        message += (
            f"\nIt did not fit with batch_size={config['batch_size']}. A smaller one needs less memory; with "
            "grad_accumulation as many times larger, a step is over as many samples as before."
        )
    if _NOT_REPEATABLE.search(message) and config.get("deterministic"):
        message += (
            "\nThe setting deterministic=false allows it; resumes are approximate then, and the page says so."
        )
    if is_about_one_sample(error) and "batch_size" in config:
        message += f"\n{about_one_sample(config['batch_size'])}"
    return message


def is_about_one_sample(error: BaseException) -> bool:
    """Whether batch normalization was given a batch that has no variance."""
    return isinstance(error, ValueError) and _ONE_VALUE_FOR_A_NORM in str(error)


def about_one_sample(batch_size: int) -> str:
    return (
        f"With batch_size={batch_size} the last batch of an epoch has one sample, and batch normalization cannot "
        "train on one. The setting drop_last=true leaves that batch out; another batch_size helps too."
    )


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:  # what a recipe raises may be of any kind
        return "(its text cannot be made)"


def _is_of_a_lost_rank(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and bool(_RANK_GONE.search(_text_of(error)))
