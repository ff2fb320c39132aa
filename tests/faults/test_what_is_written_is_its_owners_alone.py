"""Whatever the umask and the name of the data folder: everything lies in it, and no other account can read it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from heimdall.site import private_files
from tests.support.running import running

ROOT = Path(__file__).parents[2]


@pytest.fixture
def open_umask():
    before = os.umask(0o000)
    yield
    os.umask(before)


def manage(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"} | environment
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=ROOT,
        env=known,
        capture_output=True,
        text=True,
        timeout=120,
    )


def left_open(folder: Path) -> dict[str, str]:
    """What others could use, if they came into the folder."""
    paths = [folder, *folder.rglob("*")]
    return {
        str(path): oct(path.lstat().st_mode) for path in paths if path.lstat().st_mode & private_files.OTHERS
    }


@pytest.mark.processes
def test_a_server_a_worker_and_a_training_leave_nothing_open(tmp_path, open_umask):
    with running(tmp_path) as site:
        site.wait_for_status(site.submit(epochs=1), "completed")
        files = list(site.data.glob("heimdall.sqlite3*"))  # what SQLite keeps beside it while it is open, too
        assert not [path for path in files if path.stat().st_mode & private_files.OTHERS]
    assert list(site.data.rglob("*.safetensors"))
    assert left_open(site.data) == {}


def test_a_folder_of_an_earlier_umask_is_closed_with_a_line_in_the_log(tmp_path, caplog):
    data = tmp_path / "data"
    (data / "checkpoints").mkdir(parents=True)
    (data / "heimdall.sqlite3").touch()
    for path, mode in ((data, 0o755), (data / "checkpoints", 0o755), (data / "heimdall.sqlite3", 0o644)):
        path.chmod(mode)
    (data / "elsewhere").symlink_to(tmp_path)
    before = stat.S_IMODE(tmp_path.stat().st_mode)
    private_files.close_to_others(data)
    assert left_open(data).keys() == {str(data / "elsewhere")}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == before
    assert f"{data} could be used by other accounts (mode 755); it is closed now" in caplog.text
    caplog.clear()
    private_files.close_to_others(data)
    assert caplog.text == ""


def test_folders_deep_below_are_closed_too_and_no_link_is_followed(tmp_path, caplog):
    data, outside = tmp_path / "data", tmp_path / "outside"
    deep = data / "checkpoints" / "jobs" / "7" / "a1"
    deep.mkdir(parents=True)
    outside.mkdir()
    (data / "checkpoints" / "link").symlink_to(outside)
    for path in (data, *deep.parents[:3], deep, outside):
        path.chmod(0o755)
    private_files.close_to_others(data)
    assert [oct(stat.S_IMODE(path.stat().st_mode)) for path in (deep, deep.parent, outside)] == [
        "0o700",
        "0o700",
        "0o755",
    ]
    assert f"3 folders below {data} were open to other accounts; they are closed now" in caplog.text
    caplog.clear()
    private_files.close_to_others(data)
    assert caplog.text == ""


def test_a_walk_that_takes_long_is_broken_off(tmp_path, monkeypatch):
    (tmp_path / "data" / "one" / "two" / "three").mkdir(parents=True)
    monkeypatch.setattr(private_files, "WALK_SECONDS", 0.0)
    (tmp_path / "data" / "one" / "two").chmod(0o755)
    (tmp_path / "data" / "one" / "two" / "three").chmod(0o755)
    private_files.close_to_others(tmp_path / "data")
    assert stat.S_IMODE((tmp_path / "data" / "one" / "two" / "three").stat().st_mode) == 0o755


def test_a_folder_that_everybody_shares_is_not_closed(tmp_path):
    tmp_path.chmod(0o1777)
    private_files.close_to_others(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o1777


def test_check_deploy_names_an_open_folder(tmp_path):
    assert "heimdall.W003" not in manage("check", "--deploy", HEIMDALL_DATA_DIR=str(tmp_path)).stderr
    tmp_path.chmod(0o755)
    said = manage("check", "--deploy", HEIMDALL_DATA_DIR=str(tmp_path)).stderr
    assert f"Other accounts of this machine can use {tmp_path}." in said


@pytest.mark.parametrize("name", ["a#b c;d%25e&f=g", "a?b'c\"d %(x)s d\u00e4ten \u96fb\u6ce2"])
def test_the_database_lies_in_the_folder_that_was_named(name, tmp_path):
    data = tmp_path / name
    done = manage("migrate", "-v0", HEIMDALL_DATA_DIR=str(data))
    assert done.returncode == 0, done.stderr
    assert (data / "heimdall.sqlite3").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert left_open(data) == {}
    asked = manage("job", "list", "--as", "nobody", HEIMDALL_DATA_DIR=str(data))
    assert "There is no active user nobody." in asked.stderr


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    done = manage("check", HEIMDALL_DATA_DIR=name)
    assert done.returncode == 1
    assert "HEIMDALL_DATA_DIR" in done.stderr
    assert "is not text in UTF-8." in done.stderr
