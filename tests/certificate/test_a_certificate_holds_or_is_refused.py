"""A certificate is checked without a server: its form, its signature, its chain, its sums, and files beside it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from heimdall import codec
from heimdall.certificate.chain import Link, findings_of, line_to
from heimdall.certificate.envelope import BadCertificate, open_envelope, signed
from heimdall.certificate.keys import BadKey, new_key, public_keys_in
from heimdall.certificate.verdict import verify_certificate
from heimdall.certificate.weights import model_tensors
from tests.certificate.tamper import unnoticed
from tests.support.certificates import Tampering, chain, replay_of, statement

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole() -> Tampering:
    return Tampering()


def answers(document, key=None, files=()):
    keys = [key.public] if key else []
    return {one.about: one for one in verify_certificate(document, keys=keys, files=files).answers}


def test_a_whole_certificate_passes_and_says_how_much_was_trained_again(whole):
    found = answers(whole.document, whole.key)
    assert all(one.is_good for one in found.values())
    assert "4 of 12 stretches, 40 of 120 steps" in found["replays"].sentence


def test_without_a_trusted_key_it_is_said_whose_word_the_key_is(whole):
    assert "which the document itself names" in answers(whole.document)["signature"].sentence
    assert not answers(whole.document, new_key())["signature"].is_good


@pytest.mark.parametrize("seed", range(3))
def test_every_tampering_is_noticed(seed):
    ways, passed = unnoticed(250, seed)
    assert len(ways) == 11
    assert not passed


def test_the_same_facts_give_the_same_bytes(whole):
    again = signed(statement(chain(12), whole.key), whole.key)
    assert again == whole.document


def test_a_document_has_one_form(whole):
    for other in (whole.document + b"\n", b" " + whole.document, whole.document.replace(b'"sig"', b'"sig" ')):
        with pytest.raises(BadCertificate):
            open_envelope(other)
    for nothing in (b"", b"{}", b"[]", b'{"payload":1}', b"\xff", b'{"payload"' * 200_000):
        with pytest.raises(BadCertificate):
            open_envelope(nothing)


def test_keys_come_as_text_as_pem_or_as_a_servers_page():
    key = new_key()
    from cryptography.hazmat.primitives import serialization

    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    pem = key._key.public_key().public_bytes(*form).decode()
    page = f'{{"keys": [{{"public": "{key.public}"}}]}}'
    assert public_keys_in(key.public) == public_keys_in(pem) == public_keys_in(page) == [key.public]
    for wrong in ("", "abc", key.public[:-4], key.pem.decode(), '{"keys": 1}', '{"keys": [{"public": "x"}]}'):
        with pytest.raises(BadKey):
            public_keys_in(wrong)


def test_what_was_rolled_back_taken_back_or_never_written_is_told():
    links = chain(4, attempts=1)
    lost = Link(5, 0, 1, 55, 1, None, "5" * 64, "", links[3].digest, 40, "", "", "", links[3].seal).sealed()
    again = Link(6, 0, 2, 60, 1, None, "6" * 64, "", links[3].digest, 40, "", "", "", lost.seal).sealed()
    adrift = Link(7, 0, 2, 80, 2, None, "8" * 64, "", "7" * 64, 70, "", "", "", again.seal).sealed()
    every = [*links, lost, again, adrift]
    assert [one.number for one in line_to(every, 6)] == [1, 2, 3, 4, 6]
    found = [(one.kind, one.number) for one in findings_of(every, line_to(every, 6))]
    assert found == [("rollback", 5), ("gap", 7), ("rollback", 7)]
    newer = Link(8, 1, 3, 10, 0, None, "9" * 64, "", "", 0, "", "", "", adrift.seal).sealed()
    kinds = {one.kind for one in findings_of([*every, newer], [newer])}
    assert kinds == {"taken_back", "gap"}


def test_a_chain_without_its_beginning_is_not_whole(whole):
    links = chain(6)
    started_later = [one for one in links if one.number > 2]
    renumbered, before = [], ""
    for number, link in enumerate(started_later, start=1):
        renumbered.append(Link(**(vars(link) | {"number": number, "before": before})).sealed())
        before = renumbered[-1].seal
    document = signed(statement(renumbered, whole.key, replays=[]), whole.key)
    assert "not whole" in answers(document, whole.key)["chain"].sentence


def test_a_replay_that_differs_makes_the_job_differ_from_there_on(whole):
    links = chain(8)
    replay = replay_of(links[0], *links[1:4])
    replay["points"][1]["found"] = "0" * 64
    replay |= {"outcome": "differs", "first_step": 25}
    found = statement(links, whole.key, replays=[replay])
    assert found["predicate"]["summary"]["state"] == "differs"
    assert found["predicate"]["summary"]["stretches_replayed"] == 1
    assert not answers(signed(found, whole.key), whole.key)["replays"].is_good


def test_a_file_is_named_by_its_state_or_by_its_weights(whole, tmp_path):
    state = {"model": {"weight": torch.arange(6.0)}, "optimizer": {"momentum": torch.ones(6)}}
    saved = codec.save(tmp_path / "final.safetensors", state, {})
    links = chain(3)
    last = Link(**(vars(links[-1]) | {"digest": saved.digest})).sealed()
    weights = model_tensors(codec.tensor_hashes(saved.path))
    document = signed(statement([*links[:2], last], whole.key, weights=weights), whole.key)

    def says(path) -> tuple[bool, str]:
        found = answers(document, whole.key, files=[path])["file"]
        return found.is_good, found.sentence

    assert says(tmp_path / "final.safetensors")[0]
    codec.extract(saved.path, tmp_path / "bundle.safetensors", parts={"model": ("model",)}, about={})
    assert says(tmp_path / "bundle.safetensors") == (True, says(tmp_path / "bundle.safetensors")[1])
    damaged = bytearray((tmp_path / "final.safetensors").read_bytes())
    damaged[-30] ^= 1  # within the tensors
    (tmp_path / "damaged.safetensors").write_bytes(damaged)
    codec.save(tmp_path / "other.safetensors", {"model": {"weight": torch.zeros(6)}}, {})
    (tmp_path / "nothing.safetensors").write_bytes(b"nothing")
    for name in ("damaged", "other", "nothing", "missing"):
        assert not says(tmp_path / f"{name}.safetensors")[0], name


def test_ten_thousand_links_are_checked_in_two_seconds_without_torch(whole, tmp_path):
    """In a process that has neither torch nor Django, as an auditor's."""
    path = tmp_path / "long.json"
    path.write_bytes(signed(statement(chain(10_000), whole.key), whole.key))
    code = (
        "import sys, time; from pathlib import Path\n"
        "sys.modules['torch'] = sys.modules['django'] = sys.modules['numpy'] = None\n"
        "from heimdall.certificate.verdict import verify_certificate\n"
        "began = time.process_time()\n"
        f"verdict = verify_certificate(Path({str(path)!r}).read_bytes(), keys=[{whole.key.public!r}])\n"
        "print(verdict.is_good, time.process_time() - began)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    is_good, seconds = done.stdout.split()
    assert is_good == "True", done.stderr
    assert float(seconds) < 2.0
