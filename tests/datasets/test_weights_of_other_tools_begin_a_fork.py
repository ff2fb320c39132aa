"""A checkpoint folder of Hugging Face becomes a bundle, the bundle a job, and the job the start of a fork."""

import json

import pytest
import torch
from safetensors.torch import save_file

from heimdall import codec
from heimdall.errors import InvalidInput
from heimdall.foreign_weights import main, weights_in, write_bundle
from heimdall.recipes import registry
from heimdall.recipes.language_model.recipe import Recipe
from training import services
from training.store import checkpoints

CONFIG = {"epochs": 1, "width": 16, "heads": 2, "layers": 1, "context_length": 8}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    info = registry.get("language_model")
    config = info.config_class.model_validate(registry.validate("language_model", CONFIG))
    torch.manual_seed(7)
    return Recipe(config, tmp_path_factory.mktemp("scratch")).model().state_dict()


@pytest.fixture
def folder(weights, tmp_path):
    """As Hugging Face's Trainer writes it: several files, an index, and what a resume there needs beside."""
    place = tmp_path / "checkpoint-100"
    place.mkdir()
    named = {f"model.{name}": value.clone() for name, value in weights.items()}
    halves = dict(list(named.items())[::2]), dict(list(named.items())[1::2])
    where = {}
    for number, half in enumerate(halves, start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file(half, place / file, metadata={"format": "pt"})
        where |= dict.fromkeys(half, file)
    (place / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (place / "optimizer.pt").write_bytes(b"\x80\x04 a pickle that nobody reads")
    return place


@pytest.mark.django_db
def test_a_fork_begins_with_weights_that_were_trained_elsewhere(folder, weights, tmp_path, alice, settings):
    target = tmp_path / "weights.bundle.safetensors"
    words = ["--recipe", "language_model", "--config", json.dumps(CONFIG), "--output", str(target)]
    assert main([str(folder), *words]) == 0
    job = services.import_bundle(target, by=alice).job
    assert (job.status, job.job_name, job.config["width"]) == ("completed", "Weights of checkpoint-100", 16)
    [row] = job.checkpoints.all()
    fork = services.fork(job, by=alice, checkpoint=row.pk, carry="weights", config={"epochs": 2}).job
    assert (fork.status, fork.origin["carries"], fork.current_step) == ("queued", "weights", 0)
    start = checkpoints.fetch(fork.checkpoints.get(), settings.SCRATCH_DIR)
    loaded = codec.load(start)[0]["model"]
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())


def test_weights_that_do_not_fit_are_refused_by_name(weights, tmp_path, capsys):
    file = tmp_path / "model.safetensors"
    name, *_ = weights
    wrong = {one: value.clone() for one, value in weights.items()} | {name: torch.zeros(3)}
    save_file(wrong | {"head.bias": torch.zeros(1)}, file)
    with pytest.raises(InvalidInput) as refused:
        write_bundle(file, tmp_path / "x", recipe="language_model", config=CONFIG)
    assert f"{name} has the shape [3]" in str(refused.value)
    assert "head.bias is not of it" in str(refused.value)
    missing = "before_head.weight"
    save_file({one: value.clone() for one, value in weights.items() if one != missing}, file)
    with pytest.raises(InvalidInput, match=f"{missing} is missing"):
        write_bundle(file, tmp_path / "x", recipe="language_model", config=CONFIG)
    assert not (tmp_path / "x").exists()
    assert main([str(file), "--recipe", "nothing", "--output", str(tmp_path / "x")]) == 1
    assert "There is no recipe 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["epoch=3.ckpt", "pytorch_model.bin", "model.pt"])
def test_a_pickle_is_refused_with_the_way_around_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04.")
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(InvalidInput, match=r"is a pickle, which can run code.*save_file"):
            weights_in(place)


@pytest.mark.parametrize(
    "index", ["{", "[]", '{"weight_map": {"a": "../../etc/x.safetensors"}}', '{"weight_map": {"a": 1}}']
)
def test_an_index_leads_nowhere_else(tmp_path, index):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InvalidInput, match="is no index"):
        weights_in(tmp_path)


def test_a_file_that_is_cut_off_is_one_sentence(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{}")
    with pytest.raises(InvalidInput, match="is no whole safetensors file"):
        weights_in(tmp_path)
