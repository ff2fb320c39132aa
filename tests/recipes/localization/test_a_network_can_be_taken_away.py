"""The commands and the export, on the checkpoint of a short training."""

import io
import json
import re

import numpy as np
import pytest
import torch
from django.core.management import CommandError, call_command

from heimdall import codec
from heimdall.recipes import registry
from heimdall.recipes.localization import dataset, evaluate, export
from heimdall.recipes.localization.generator import Generator
from heimdall.recipes.localization.recipe import RadioSamples
from tests.recipes.in_process import train

torch.set_num_threads(1)

TINY = {
    "epochs": 1, "batch_size": 64, "samples": 300, "width": 8, "heads": 2, "layers": 1, "refinements": 1,
    "late_arrivals": True,
}  # fmt: skip


def checkpoint_of(run, path, *, recipe=evaluate.PACKAGE):
    about = {"recipe": recipe, "config": registry.validate("localization", TINY), "epoch": 1, "step": 4}
    codec.save(path, run.parts, about)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train("localization", TINY, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def checkpoint(run, tmp_path_factory):
    return checkpoint_of(run, tmp_path_factory.mktemp("checkpoint") / "final.safetensors")


def said(*words) -> str:
    out = io.StringIO()
    call_command("localization", *map(str, words), stdout=out)
    return out.getvalue()


def test_the_table_has_the_network_the_baselines_and_the_bound(checkpoint):
    asked = ("--samples", 300, "--seed", 5, "--kinds", "--each", 100, "--reference", 3)
    text, _, kinds = said("evaluate", checkpoint, *asked).partition("| stations")
    assert re.search(r"^\| 7 \| 100 \| \d+\.\d % \|", kinds.partition("| heard by |")[2], re.MULTILINE)
    assert re.search(r"^\| all \| 100.0 % \| \d+\.\d % \|", kinds, re.MULTILINE)
    rows = re.findall(r"^\| ([^|]+?) \|", text, re.MULTILINE)
    assert rows == [
        "estimator",
        "---",
        "network",
        "network, unrefined",
        "Gauss-Newton on timing, plain",
        "Gauss-Newton on timing, careful",
        "Levenberg-Marquardt on strength",
        "centroid of the receivers",
        "Bayes-optimal reference, first 3",
        "network, first 3",
        "Cramer-Rao bound",
    ]
    assert evaluate.LATE_NOTE in text
    assert "300 samples of seed 5. Trained on 300 samples of seed 1" in text
    assert "The network's error over the reference's, on the same 3 samples: " in text
    assert re.search(r"p95 of the network: \d+ % (below|above) Gauss-Newton on timing, plain", text)


def test_what_is_worse_is_said_to_be_above():
    assert evaluate.difference(80.0, 100.0) == "20 % below"
    assert evaluate.difference(102.0, 100.0) == "2 % above"


def test_the_table_goes_into_a_document_without_being_typed(checkpoint, tmp_path):
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- evaluate late -->\nold\n<!-- end of late -->\nafter\n")
    words = ("evaluate", checkpoint, "--samples", 50, "--seed", 5, "--into", document)
    text = said(*words, "late")
    assert document.read_text() == f"before\n<!-- evaluate late -->\n{text}<!-- end of late -->\nafter\n"
    with pytest.raises(CommandError, match="no place"):
        said(*words, "early")


def test_the_part_that_the_training_kept_aside_is_evaluated_where_there_is_one(checkpoint, run, tmp_path):
    kept = len(evaluate.test_part(evaluate.open_checkpoint(checkpoint), tmp_path)["detected"])
    assert f"{kept} samples of its own test part" in said("evaluate", checkpoint, "--test-part")
    config = registry.validate("localization", TINY | {"test_split": 0.0})
    about = {"recipe": evaluate.PACKAGE, "config": config, "epoch": 1, "step": 4}
    codec.save(tmp_path / "none.safetensors", run.parts, about)
    with pytest.raises(CommandError, match="its test_split is 0"):
        said("evaluate", tmp_path / "none.safetensors", "--test-part")
    about |= {"config": registry.validate("localization", TINY), "environment": {"data_fingerprint": "0"}}
    codec.save(tmp_path / "other.safetensors", run.parts, about)
    with pytest.raises(CommandError, match="not those of the training"):
        said("evaluate", tmp_path / "other.safetensors", "--test-part")


def test_the_samples_of_the_training_are_refused_for_the_evaluation(checkpoint):
    with pytest.raises(CommandError, match="trained on samples of seed 1"):
        said("evaluate", checkpoint, "--seed", 1)


def test_a_checkpoint_of_another_recipe_is_refused_with_a_sentence(run, tmp_path):
    other = checkpoint_of(run, tmp_path / "other.safetensors", recipe="heimdall.recipes.language_model")
    with pytest.raises(CommandError, match="language_model"):
        said("evaluate", other)


def test_a_damaged_or_missing_checkpoint_is_one_line(checkpoint, tmp_path):
    data = bytearray(checkpoint.read_bytes())
    data[-1] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(data)
    with pytest.raises(CommandError, match="have changed"):
        said("evaluate", tmp_path / "damaged.safetensors")
    with pytest.raises(CommandError, match="No such file"):
        said("evaluate", tmp_path / "missing.safetensors")


def test_generate_tells_its_speed_and_goes_on_where_it_was(tmp_path):
    folder = tmp_path / "alps"
    text = said("generate", folder, "--samples", 3000, "--samples-per-shard", 1000)
    assert "3000 samples" in text
    assert int(re.search(r"(\d+) a second of one core", text)[1]) > 10_000
    assert "too diluted" in text
    assert "Made 500 samples" in said("generate", folder, "--samples", 3500, "--samples-per-shard", 1000)
    assert dataset.read_manifest(folder).samples == 3500


@pytest.mark.parametrize(
    "text",
    [
        ("--set", "sync_jitter=1.0"),
        ("--set", "frequency_mhz=1e9"),
        ("--set", "fading"),
        ("--config", "/none"),
    ],
)
def test_generate_refuses_impossible_settings_in_one_line(tmp_path, text):
    with pytest.raises(CommandError):
        said("generate", tmp_path / "alps", *text)
    assert not (tmp_path / "alps").exists()


def test_the_onnx_file_gives_the_answers_of_the_network(checkpoint, tmp_path):
    pytest.importorskip("onnxruntime", reason="requirements-export.txt is not installed")
    file = tmp_path / "network.onnx"
    assert "Largest difference" in said("export", checkpoint, file)
    trained = evaluate.open_checkpoint(checkpoint)
    made = Generator(trained.settings, 77)
    reports = RadioSamples(made.network, made.samples(0, 5).arrays).all().reports
    parity = export.compare(trained, reports, file)
    assert parity.position_m < 0.01
    assert parity.deviation_share < 1e-3
    # One sample alone, raw reports: normalisation is inside.
    alone = export.answer(file, *(part[:1].numpy() for part in reports))
    together = export.answer(file, *(part.numpy() for part in reports))
    assert np.allclose(alone[0], together[0][:1], atol=1e-6)
    for share, place in ((0.68, 3), (0.95, 4)):
        factor = trained.calibration.radius_squared(share)
        assert np.allclose(together[place], factor * together[1], rtol=1e-6)
    import onnx

    metadata = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    assert json.loads(metadata["settings"])["late_arrivals"] is True
    assert json.loads(metadata["values"])[3] == "arrival_ns"


def test_an_export_that_answers_otherwise_is_removed(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_write", lambda trained, reports, path: path.write_bytes(b"onnx"))
    monkeypatch.setattr(export, "compare", lambda *arguments: export.Parity(5, 0.5, 0.0))
    with pytest.raises(export.NotTheSame):
        export.export(evaluate.open_checkpoint(checkpoint), tmp_path / "network.onnx", samples=5)
    assert not (tmp_path / "network.onnx").exists()
