"""manage.py checkpoint verify: what was downloaded is whole, is what was meant, or is refused with a sentence."""

import hashlib
import io
import json
from pathlib import Path

import pytest
import torch
from django.core.management import CommandError, call_command

from heimdall import codec


@pytest.fixture
def file(tmp_path) -> Path:
    codec.save(tmp_path / "final.safetensors", {"model": {"weight": torch.arange(9.0)}}, {"step": 7})
    return tmp_path / "final.safetensors"


def verify(*words) -> tuple[str, str]:
    """What it says on both outputs; where it refuses, its sentence goes to the second."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command("checkpoint", "verify", *map(str, words), stdout=out, stderr=err)
    except CommandError as error:
        err.write(f"{error} ({error.returncode})")
    return out.getvalue(), err.getvalue()


def test_a_good_file_is_told_by_its_names(file):
    raw = file.read_bytes()
    named = hashlib.sha256(raw[: 8 + int.from_bytes(raw[:8], "little")]).hexdigest()
    told, refused = verify(file, "--json", "--header-sha256", named.upper())
    found = json.loads(told)
    assert (found["header_sha256"], found["size"], found["about"]) == (named, len(raw), {"step": 7})
    assert refused == ""
    told, refused = verify(file, "--digest", found["digest"])
    assert told.startswith(f"ok   {file}\n")
    assert found["digest"] in told
    assert refused == ""


@pytest.mark.parametrize("option", ["--digest", "--header-sha256"])
def test_a_good_file_that_was_not_meant_is_refused(file, option):
    told, refused = verify(file, option, "ab" * 32)
    assert told == ""
    assert "is whole, but its" in refused


def test_each_bad_file_is_named_and_the_others_are_checked(file, tmp_path):
    damaged = tmp_path / "damaged"
    damaged.write_bytes(file.read_bytes()[:-1] + b"x")
    told, refused = verify(damaged, file, tmp_path / "nowhere")
    assert told.startswith(f"ok   {file}\n")
    assert f"{damaged} is no checkpoint, or is damaged: the bytes of model/weight have changed." in refused
    assert "No such file" in refused
    assert "2 of 3 did not pass. (1)" in refused
