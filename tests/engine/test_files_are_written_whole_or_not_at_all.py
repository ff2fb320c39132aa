"""Every file that Heimdall replaces appears under its name whole, readable by its owner alone, or not at all."""

import json
import math
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from heimdall.files import whole_file, write_whole
from heimdall.plain_json import with_named_floats, with_nulls


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_whole(path, "before")

    def write_half() -> None:
        with whole_file(path) as file:
            file.write(b"half of it")
            assert path.read_text() == "before"
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert [found.name for found in tmp_path.iterdir()] == ["state"]
    assert path.read_text() == "before"


def test_a_file_is_for_its_owner_alone_whatever_the_umask_says(tmp_path: Path) -> None:
    code = (
        "import os, sys; os.umask(0); from heimdall.files import write_whole; write_whole(sys.argv[1], 'x')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "secret")], check=True, timeout=60)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_of_many_first_ones_one_stays_and_all_read_it(tmp_path: Path) -> None:
    path, read = tmp_path / "secret", []
    together = threading.Barrier(8)

    def first(number: int) -> None:
        together.wait()
        write_whole(path, f"secret {number}", keep_existing=True)
        read.append(path.read_text())

    threads = [threading.Thread(target=first, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read) == 8
    assert len(set(read)) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_no_reader_of_json_meets_a_nan() -> None:
    value = {"a": [1.5, math.nan, {"b": (-math.inf, True, "text", None)}]}
    assert with_nulls(value) == {"a": [1.5, None, {"b": [None, True, "text", None]}]}
    assert with_named_floats(value) == {"a": [1.5, "nan", {"b": ["-inf", True, "text", None]}]}
    json.dumps(with_nulls(value), allow_nan=False)


def test_looking_at_a_checkpoint_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from heimdall import codec;"
        "codec.verify, codec.read_about, codec.extract;"
        "import heimdall.codec.header, heimdall.codec.writing, heimdall.codec.dtypes;"
        "print({'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr
