import hashlib
import json

import numpy as np
import pytest

from heimdall.recipes.localization import dataset
from heimdall.recipes.localization.dataset import Manifest, UnreadableDataset
from heimdall.recipes.localization.generator import Generator
from heimdall.recipes.localization.settings import RadioSettings

SETTINGS = RadioSettings()


def make(folder, samples=450, size=100, **kwargs):
    return dataset.generate(folder, SETTINGS, 9, samples=samples, samples_per_shard=size, **kwargs)


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


class Cancelled(Exception):
    pass


def test_cancelled_and_resumed_is_uninterrupted_by_digest(tmp_path):
    def cancel(manifest):
        if manifest.samples == 200:
            raise Cancelled

    whole = make(tmp_path / "whole")
    with pytest.raises(Cancelled):
        make(tmp_path / "cut", on_shard=cancel)
    assert dataset.read_manifest(tmp_path / "cut").samples == 200
    assert make(tmp_path / "cut") == whole
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_extending_makes_the_samples_that_would_have_come_next(tmp_path):
    first = make(tmp_path / "extended", samples=250)
    old = digests(tmp_path / "extended")
    extended = make(tmp_path / "extended", samples=450)
    whole = dataset.read(tmp_path / "extended", extended)
    straight = Generator(SETTINGS, 9).samples(0, 450).arrays
    assert all(np.array_equal(whole[name], straight[name]) for name in straight)
    assert extended.fingerprint(250) == first.fingerprint()
    assert extended.fingerprint() != first.fingerprint()
    new = digests(tmp_path / "extended")
    assert {name: new[name] for name in old if name != dataset.MANIFEST} == {
        name: digest for name, digest in old.items() if name != dataset.MANIFEST
    }


def test_a_slice_of_a_dataset_reads_only_what_it_needs(tmp_path):
    manifest = make(tmp_path)
    (tmp_path / manifest.shards[-1].path).unlink()
    found = dataset.read(tmp_path, manifest, 150)
    assert np.array_equal(found["arrival_ns"], Generator(SETTINGS, 9).samples(0, 150).arrays["arrival_ns"])
    with pytest.raises(UnreadableDataset, match="missing"):
        dataset.read(tmp_path, manifest)


def test_the_manifest_survives_the_file(tmp_path):
    manifest = make(tmp_path)
    assert dataset.read_manifest(tmp_path) == manifest
    assert manifest.refused == Generator(SETTINGS, 9).samples(0, 450).refused


def test_a_changed_bit_in_a_shard_is_noticed(tmp_path):
    manifest = make(tmp_path, samples=100)
    path = tmp_path / manifest.shards[0].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UnreadableDataset, match="has changed"):
        dataset.read(tmp_path, manifest)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content["config"].update(seed=10),
        lambda content: content["config"].update(sync_jitter_ns=1.0),
        lambda content: content["shards"].pop(0),
        lambda content: content["shards"][0].update(path="../../etc/passwd"),
        lambda content: content.update(format=99),
        lambda content: content.pop("config"),
        lambda content: content["shards"][0].pop("start"),
    ],
)
def test_a_changed_manifest_is_refused_with_a_sentence(tmp_path, spoil):
    make(tmp_path, samples=200)
    content = json.loads((tmp_path / dataset.MANIFEST).read_text())
    spoil(content)
    (tmp_path / dataset.MANIFEST).write_text(json.dumps(content))
    with pytest.raises(UnreadableDataset, match=r"\.$"):
        dataset.read(tmp_path, dataset.read_manifest(tmp_path))


def test_another_dataset_is_never_mixed_in(tmp_path):
    make(tmp_path, samples=100)
    with pytest.raises(UnreadableDataset, match="another seed"):
        dataset.generate(tmp_path, SETTINGS, 8, samples=200, samples_per_shard=100)


def test_other_settings_have_another_fingerprint():
    plain = dataset.fingerprint_of_settings(SETTINGS, 1, 100)
    assert plain == dataset.fingerprint_of_settings(RadioSettings(), 1, 100)
    assert plain != dataset.fingerprint_of_settings(SETTINGS, 2, 100)
    assert plain != dataset.fingerprint_of_settings(RadioSettings(sync_jitter_ns=99.0), 1, 100)
    assert Manifest(SETTINGS, 1, ()).fingerprint() != Manifest(SETTINGS, 2, ()).fingerprint()
