"""Memory that does not suffice has one name, whoever noticed it; and the remedy stands beside what torch says."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from heimdall.engine import recipe_job
from heimdall.trainer.protocol import Failed


def too_large() -> None:
    torch.empty(2**48)


def not_repeatable() -> None:
    torch.use_deterministic_algorithms(True)
    try:
        torch.zeros(3).put_(torch.tensor([0]), torch.tensor([1.0]))
    finally:
        torch.use_deterministic_algorithms(False)


def raising(error: BaseException) -> Any:
    def fail() -> None:
        raise error

    return fail


NO_MEMORY = {
    "the CPU's": too_large,
    "Python's": raising(MemoryError()),
    "the GPU's": raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")),
    "pinned": raising(torch.AcceleratorError("CUDA error: out of memory")),
    "of a library": raising(
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    ),
}


def told(fail: Any, monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]) -> Failed:
    """What the supervisor hears of a trainer whose work fails so."""
    sent: list[Failed] = []
    channel: Any = SimpleNamespace(
        listen=lambda receive: None, send=sent.append, spec=SimpleNamespace(config=config), page=None
    )
    monkeypatch.setattr(recipe_job, "perform", lambda *_, **__: fail())
    assert recipe_job.run(channel) == recipe_job.FAILED
    return sent[0]


@pytest.mark.parametrize("whose", NO_MEMORY)
def test_it_is_called_out_of_memory_and_names_the_field(whose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = told(NO_MEMORY[whose], monkeypatch, {"batch_size": 512})
    assert failed.code == "out_of_memory"
    assert "batch_size=512" in failed.error


def test_a_config_without_the_field_is_told_no_remedy_that_it_has_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = told(too_large, monkeypatch, {})
    assert failed.code == "out_of_memory"
    assert "batch_size" not in failed.error


def test_an_operation_that_cannot_be_repeated_names_what_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = told(not_repeatable, monkeypatch, {"deterministic": True})
    assert failed.code == "recipe_error"
    assert "put_ does not have a deterministic implementation" in failed.error
    assert "deterministic=false allows it" in failed.error


def test_another_error_is_the_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = told(raising(RuntimeError("shapes do not match")), monkeypatch, {"batch_size": 512})
    assert (failed.code, failed.error) == ("recipe_error", "RuntimeError: shapes do not match")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (SystemExit("the data set is missing"), "(SystemExit): the data set is missing"),
        (SystemExit(2), "(SystemExit): 2"),
        (SystemExit(), "(SystemExit): exit without an error"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit("over"), "GeneratorExit: over"),
        (Unspeakable(), "Unspeakable: (its text cannot be made)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_recipe_raises_fails_the_job_with_a_sentence(
    error: BaseException, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = told(raising(error), monkeypatch, {})
    assert failed.code == "recipe_error"
    assert failed.error.endswith(sentence)
    assert type(error).__name__ in failed.traceback
