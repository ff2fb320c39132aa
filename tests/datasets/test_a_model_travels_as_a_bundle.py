"""A trained model as one file: what is in it, that it comes in elsewhere, and what is refused."""

import io
import json
import shutil

import pytest
import torch
from django.core.management import CommandError, call_command
from safetensors import safe_open

from heimdall import codec
from heimdall.recipes import registry
from tests.pages.conftest import html, words
from tests.recipes.in_process import train
from tests.support.staged import staged_as
from training import services
from training.models import Artifact, Checkpoint, TrainingJob
from training.services import bundles as bundles_service
from training.store import bundles, checkpoints
from training.store.bundles import BadBundle

pytestmark = pytest.mark.django_db
TINY = {
    "epochs": 1, "batch_size": 64, "samples": 200, "width": 8, "heads": 2, "layers": 1, "refinements": 1,
    "dropout": 0.0, "validation_split": 0.3, "checkpoint_every_minutes": 0.0, "ema_decay": 0.9,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What a trainer staged at its end, and its last epoch."""
    run = train("localization", TINY, tmp_path_factory.mktemp("trained"))
    return run.parts, run.of("epoch")[-1]


@pytest.fixture
def checkpoint(alice, node, trained, tmp_path) -> Checkpoint:
    """Of a job that has completed."""
    parts, epoch = trained
    job = services.submit(by=alice, job_name="where is it?", recipe="localization", config=TINY).job
    attempt = services.claim(node, slot=0, pid=1)
    rows = [{"step": epoch.step, "epoch": 1, "loss": 1.0}]
    services.beat(attempt, services.Report(steps=rows, epochs=[epoch]))
    about = {"recipe": registry.get("localization").package, "config": job.config, "step": epoch.step}
    about |= {"epoch": 1, "environment": {"data_fingerprint": "f" * 64}, "created_at": "2026-01-01T00:00:00"}
    saved = codec.save(tmp_path / "staged", parts, about)
    staged = staged_as(saved, step=epoch.step, epoch=1, kinds=("best", "final"), val_loss=-1.5)
    stored = checkpoints.store(staged, job_id=job.pk, attempt=attempt.number)
    services.complete(attempt, stored)
    return Checkpoint.objects.get(job=job)


@pytest.fixture
def bundle(checkpoint, settings):
    return bundles.write(checkpoint, settings.SCRATCH_DIR)


def test_it_holds_the_averaged_model_and_all_that_belongs_to_it(bundle, checkpoint, trained):
    parts, about = codec.load(bundle)
    assert set(parts) == {"model", "recipe_scene", "recipe_calibration"}
    assert parts["recipe_calibration"] == trained[0]["recipe_calibration"] != {}
    averaged = trained[0]["ema"]["model"]
    assert all(torch.equal(parts["model"][name], tensor) for name, tensor in averaged.items())
    assert "feature_mean" in " ".join(averaged)  # the normalisation
    assert about["config"] == checkpoint.job.config
    assert about["metrics"]["val_p50"] > 0
    assert about["environment"]["data_fingerprint"] == "f" * 64
    assert about["checkpoint"] == {"digest": checkpoint.digest, "header_sha256": checkpoint.header_sha256}
    assert about["artifact"]["kind"] == "localization"
    with safe_open(bundle, "pt") as file:  # any safetensors tool reads the weights
        assert len(list(file.keys())) == len(averaged)
    assert bundle.stat().st_size < checkpoint.size


def test_it_comes_in_as_a_completed_job_with_values_map_and_checkpoint(
    bundle, checkpoint, alice, bob, browse, tmp_path
):
    digest = codec.verify(bundle).digest
    services.delete(checkpoint.job, by=alice)
    job = services.import_bundle(bundle, by=bob).job
    assert (job.status, job.owner, job.job_name, job.recipe) == (
        "completed",
        bob,
        "where is it?",
        "localization",
    )
    row = Checkpoint.objects.get(job=job)
    assert (row.kinds, row.digest, row.pinned, row.val_loss) == (["best"], digest, True, -1.5)
    assert Artifact.objects.get(job=job).content["kind"] == "localization"
    text = words(html(browse(bob).get(f"/jobs/{job.pk}/")))
    assert "Imported by bob from a bundle." in text
    assert "val_p50" in text
    services.retire_checkpoints(job)
    again = bundles.write(row, tmp_path)  # and it can be taken on from there
    assert (
        codec.load(again)[0]["model"].keys()
        == codec.load(checkpoints.fetch(row, tmp_path))[0]["model"].keys()
    )


def test_the_page_and_the_command_give_the_same_bundle(bundle, checkpoint, browse, alice, mallory, tmp_path):
    url = f"/jobs/{checkpoint.job_id}/checkpoints/{checkpoint.pk}/bundle/"
    assert url in html(browse(alice).get(f"/jobs/{checkpoint.job_id}/"))
    answer = browse(alice).get(url)
    assert b"".join(answer.streaming_content) == bundle.read_bytes()
    assert answer["Content-Disposition"].endswith('.bundle.safetensors"')
    assert browse(mallory).get(url).status_code == 404
    target = tmp_path / "taken"
    assert "epoch 1" in command("export", str(checkpoint.job_id), str(target), "--as", "alice")
    assert target.read_bytes() == bundle.read_bytes()
    assert sorted(path.name for path in bundle.parent.iterdir()) == [
        bundle.name
    ]  # nothing else is left behind
    with pytest.raises(CommandError, match="no job"):
        command("export", str(checkpoint.job_id), str(target), "--as", "mallory")


def test_the_command_imports_it_once(bundle, checkpoint, admin_user):
    said = command("import", str(bundle), "--as", "root")
    assert said.strip() == f"The bundle is job {TrainingJob.objects.latest('id').pk}."
    assert bundle.exists()
    with pytest.raises(CommandError, match="is here already"):
        command("import", str(bundle), "--as", "root")


def command(*words: str) -> str:
    out = io.StringIO()
    call_command("bundle", *words, stdout=out)
    return out.getvalue()


def test_a_changed_byte_anywhere_is_refused(bundle, alice):
    good = bundle.read_bytes()
    for place in (3, 200, len(good) // 2, len(good) - 1):
        bundle.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(BadBundle, match="damaged"):
            services.import_bundle(bundle, by=alice)
    bundle.write_bytes(good[:-5])
    with pytest.raises(BadBundle, match="damaged"):
        services.import_bundle(bundle, by=alice)
    assert TrainingJob.objects.count() == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bundle": 2}, "another format"),
        ({"recipe_name": "alchemy"}, "not here"),
        ({"recipe": "their.localization"}, "their.localization, which is not here"),
        ({"config": {"epochs": 0}}, "do not fit the recipe localization"),
        ({"config": None, "epoch": 101}, "beyond the last one"),
        ({"step": "many"}, "at which step"),
        ({"epoch": -1}, "at which epoch"),
        ({"job_name": "a\x00b"}, "no bundle says"),
    ],
)
def test_a_foreign_one_is_refused_with_a_sentence(bundle, alice, tmp_path, change, sentence):
    parts, about = codec.load(bundle)
    codec.save(tmp_path / "foreign", parts, about | change)
    with pytest.raises(BadBundle, match=sentence):
        services.import_bundle(tmp_path / "foreign", by=alice)
    assert TrainingJob.objects.count() == 1


def test_numbers_that_no_database_holds_are_left_out(bundle, alice, tmp_path):
    parts, about = codec.load(bundle)
    evil = {"val_loss": 10**400, "metrics": {"val_loss": 10**400, "train_loss": float("nan"), "a\ud800": 1.0}}
    evil |= {"environment": {"threads": float("inf"), "device": "\ud800"}, "artifact": {"kind": float("nan")}}
    codec.save(tmp_path / "evil", parts, about | evil)
    job = services.import_bundle(tmp_path / "evil", by=alice).job
    assert (job.best_val_loss, job.val_loss, job.train_loss) == (None, None, None)
    assert job.environment == {"threads": None, "device": "\\ud800"}
    assert job.metrics == {"a\\ud800": 1.0}
    assert Artifact.objects.get(job=job).content == {"kind": None}


def test_two_who_bring_in_the_same_are_told_of_the_first(bundle, alice, monkeypatch, tmp_path):
    copies = [shutil.copy(bundle, tmp_path / name) for name in ("one", "other")]
    first = services.import_bundle(copies[0], by=alice).job
    looks = iter(
        [lambda name: None, bundles_service._refuse_twice]
    )  # the second looked before the first came in
    monkeypatch.setattr(bundles_service, "_refuse_twice", lambda name: next(looks)(name))
    with pytest.raises(BadBundle, match=f"is here already: it is job {first.pk}"):
        services.import_bundle(copies[1], by=alice)
    assert TrainingJob.objects.count() == 2


def test_a_checkpoint_and_any_other_file_are_no_bundles(checkpoint, alice, settings, tmp_path):
    with pytest.raises(BadBundle, match="a checkpoint, not a bundle"):
        services.import_bundle(checkpoints.fetch(checkpoint, tmp_path), by=alice)
    (tmp_path / "text").write_text(json.dumps({"hello": "world"}) * 10)
    with pytest.raises(BadBundle, match="no bundle of Heimdall"):
        services.import_bundle(tmp_path / "text", by=alice)
