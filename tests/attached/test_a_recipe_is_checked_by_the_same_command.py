"""`python -m heimdall.check --recipe NAME`: what it refuses. `make prove` runs it, and its test sees the result."""

import pytest

from heimdall.check.__main__ import main


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--recipe", "languag_model"], "language_model"),
        (["--recipe", "rf_dataset"], "rf_dataset makes data and trains nothing"),
        (["--recipe", "language_model", "--", "python", "train.py"], "a recipe or a command, not both"),
        (["--recipe", "language_model", "--hook", "lightning"], "a recipe or a command, not both"),
        (["--recipe", "language_model", "--config", "{"], "This is not JSON"),
        (["--recipe", "language_model", "--config", "[1]"], "Give an object of fields and values."),
        (["--recipe", "language_model", "--config", '{"epochs": 0}'], "epochs"),
        (["--config", "{", "--", "python", "train.py"], "This is not JSON"),
    ],
)
def test_what_cannot_be_checked_is_said_before_anything_is_trained(words, sentence, capsys):
    assert main(words) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert printed.out == ""
