"""The text of the language model: which files, how much, and the same samples for the same seed."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from heimdall.errors import InvalidConfig
from heimdall.recipes import registry
from heimdall.recipes.language_model.config import Config, parameters
from heimdall.recipes.language_model.recipe import Pieces, Recipe, Transformer
from heimdall.recipes.language_model.text import UNKNOWN, encode, tokens_of

torch.set_num_threads(1)


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "text"
    (folder / "b").mkdir(parents=True)
    (folder / "z.txt").write_text("third")
    (folder / "a.txt").write_text("first ")
    (folder / "b" / "c.md").write_text("fourth")
    (folder / ".hidden").write_text("never")
    (folder / "picture.png").write_bytes(b"\x89PNG\0\0\0")
    (folder / "broken.txt").write_bytes(b"\xff\xfe\xfd")
    assert tokens_of(str(folder), 1000, tmp_path / "scratch").tolist() == encode("first thirdfourth").tolist()
    assert tokens_of(str(folder), 8, tmp_path / "scratch").tolist() == encode("first th").tolist()


def test_other_characters_are_one_token() -> None:
    assert encode("a\u00fc\U0001f600b").tolist() == [encode("a")[0], UNKNOWN, UNKNOWN, encode("b")[0]]


def test_the_text_is_read_once_and_again_when_it_changes(tmp_path: Path) -> None:
    folder, scratch = tmp_path / "text", tmp_path / "scratch"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    tokens_of(str(folder), 100, scratch)
    kept = list(scratch.iterdir())
    tokens_of(str(folder), 100, scratch)
    assert list(scratch.iterdir()) == kept
    (folder / "a.txt").write_text("two!")
    assert tokens_of(str(folder), 100, scratch).tolist() == encode("two!").tolist()
    kept[0].write_bytes(b"torn")
    (folder / "a.txt").write_text("one")
    os.utime(folder / "a.txt", ns=(1, 1))
    assert tokens_of(str(folder), 100, scratch).tolist() == encode("one").tolist()


def test_by_default_it_is_pythons_own_library(tmp_path: Path) -> None:
    tokens = tokens_of("", 50_000, tmp_path)
    assert len(tokens) == 50_000
    assert np.mean(tokens == encode(" ")[0]) > 0.1


def test_a_folder_that_is_not_there_is_told_by_its_field(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="text_folder: there is no folder"):
        tokens_of(str(tmp_path / "nowhere"), 100, tmp_path)


def test_too_little_text_is_told() -> None:
    with pytest.raises(ValueError, match="too short"):
        Pieces(torch.arange(8), length=8, count=1)


def test_a_seed_moves_and_hides_and_no_seed_does_not() -> None:
    pieces = Pieces(torch.arange(1000) % 90 + 1, length=16, count=10, hidden=0.3)
    assert all(torch.equal(a, b) for a, b in zip(pieces.sample(3, 7), pieces.sample(3, 7), strict=True))
    assert not torch.equal(pieces.sample(3, 7)[1], pieces.sample(3, 8)[1])
    assert (pieces.sample(3, 7)[0] == UNKNOWN).any()
    inputs, targets = pieces.sample(3, None)
    assert torch.equal(inputs[1:], targets[:-1])
    assert not (inputs == UNKNOWN).any()
    batch = pieces.batch([3, 4], [7, 9])
    assert torch.equal(batch[0][0], pieces.sample(3, 7)[0])
    assert torch.equal(batch[1][1], pieces.sample(4, 9)[1])


def test_the_model_does_not_look_ahead() -> None:
    torch.manual_seed(0)
    model = Transformer(Config(context_length=8, width=8, heads=2)).eval()
    one, other = torch.randint(1, 98, (2, 8))
    other[:5] = one[:5]
    with torch.no_grad():
        first, second = model(one[None]), model(other[None])
    assert torch.equal(first[0, :5], second[0, :5])
    assert not torch.equal(first[0, 5:], second[0, 5:])


def test_the_parameters_are_as_many_as_the_config_reckons() -> None:
    config = Config(layers=3, width=32, heads=4, context_length=20)
    assert sum(weight.numel() for weight in Transformer(config).parameters()) == parameters(config)


def test_the_fingerprint_is_that_of_the_text(tmp_path: Path) -> None:
    def fingerprint() -> str:
        raw = {"text_folder": str(tmp_path / "text"), "context_length": 8}
        recipe = Recipe(Config(**registry.validate("language_model", raw)), tmp_path / "scratch")
        return recipe.fingerprint(recipe.training_samples(), recipe.validation_samples())

    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("some text " * 100)
    first = fingerprint()
    os.utime(tmp_path / "text" / "a.txt", ns=(5, 5))
    assert fingerprint() == first
    (tmp_path / "text" / "a.txt").write_text("some text " * 99 + "same text ")
    assert fingerprint() != first


@pytest.mark.parametrize("folder", ["/etc", "{open}/../..", "{open}/link", "\0"])
def test_a_folder_that_is_not_open_to_trainings_is_refused(tmp_path, monkeypatch, folder):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "link").symlink_to("/etc")
    monkeypatch.setenv("HEIMDALL_TEXT_FOLDERS", f"/nowhere, {shelf}")
    registry.validate("language_model", {"text_folder": str(shelf)})
    with pytest.raises(InvalidConfig, match="text_folder"):
        registry.validate("language_model", {"text_folder": folder.format(open=shelf)})
