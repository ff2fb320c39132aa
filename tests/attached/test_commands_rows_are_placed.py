"""What patterns found in a log becomes rows whose steps only grow; a folder is taken whole, or not at all."""

import os

import pytest

from heimdall.attached.checkpoint_folder import CheckpointFolder, NotTaken
from heimdall.attached.log_rows import MOST_WAITING, LogRows
from heimdall.engine.errors import Refused


def rows_of(*matches: dict[str, str], state: dict | None = None) -> list[dict]:
    rows = LogRows({name for match in matches for name in match})
    if state is not None:
        rows.load_state_dict(state)
    for match in matches:
        rows.add(match)
    rows.close_row()
    return rows.take_rows()


def steps_of(*own: int, epochs: tuple[int, ...] = ()) -> list[int]:
    matches = [{"step": str(step)} for step in own]
    for match, epoch in zip(matches, epochs, strict=False):
        match["epoch"] = str(epoch)
    return [row["step"] for row in rows_of(*matches)]


def test_without_a_step_each_line_with_a_value_is_the_next():
    assert rows_of({"loss": "1"}, {"loss": "x"}, {"loss": "3", "epoch": "2"}) == [
        {"step": 1, "epoch": 0, "loss": 1.0},
        {"step": 2, "epoch": 2, "loss": 3.0},
    ]


def test_lines_of_one_step_make_one_row():
    assert rows_of(
        {"step": "5"}, {"loss": "1"}, {"acc": "0.5"}, {"step": "5", "loss": "2"}, {"step": "6"}
    ) == [
        {"step": 5, "epoch": 0, "loss": 2.0, "acc": 0.5},
        {"step": 6, "epoch": 0},
    ]


def test_steps_only_grow():
    assert steps_of(3, 2, 4, 4, 1, 5) == [3, 4, 5]
    assert rows_of({"step": "4", "loss": "1"}, {"step": "2", "loss": "9"}, {"loss": "8"}) == [
        {"step": 4, "epoch": 0, "loss": 1.0}
    ]


def test_a_log_that_counts_from_0_is_moved_by_one():
    assert steps_of(0, 1, 2) == [1, 2, 3]


def test_a_log_that_counts_anew_in_each_epoch_goes_on():
    assert steps_of(0, 100, 200, 0, 100, epochs=(1, 1, 1, 2, 2)) == [1, 101, 201, 202, 302]
    assert steps_of(1, 2, 1, 2, epochs=(0, 0, 1, 1)) == [1, 2, 3, 4]


@pytest.mark.parametrize("bad", ["-1", "1.5", "x", "inf", "nan", "1e30"])
def test_a_bad_step_places_nothing(bad):
    assert [row["step"] for row in rows_of({"step": "2"}, {"step": bad, "loss": "1"}, {"step": "3"})] == [
        2,
        3,
    ]


def test_a_resume_goes_on_with_the_count():
    rows = LogRows({"step", "loss"})
    rows.add({"step": "7", "loss": "1"})
    state = rows.state_dict()
    matches = [{"step": str(step), "loss": "1"} for step in (5, 6, 7, 8)]
    assert [row["step"] for row in rows_of(*matches, state=state)] == [8]


def test_of_a_flood_of_rows_some_are_left_out_and_the_count_goes_on():
    rows = LogRows({"loss"})
    for number in range(MOST_WAITING + 5):
        rows.add({"loss": str(number)})
    found = rows.take_rows()
    assert (len(found), rows.step, rows.left_out) == (MOST_WAITING, MOST_WAITING + 5, 5)
    rows.add({"loss": "1"})
    assert rows.take_rows() == [{"step": MOST_WAITING + 6, "epoch": 0, "loss": 1.0}]


@pytest.fixture
def folder(tmp_path):
    return CheckpointFolder(tmp_path / "kept", root=tmp_path, most_bytes=100, most_files=3)


def test_files_and_links_come_back_with_nothing_else(folder, tmp_path):
    kept = tmp_path / "kept"
    (kept / "deep").mkdir()
    (kept / "z").write_bytes(b"older")
    os.utime(kept / "z", (1, 1))
    (kept / "deep/a").write_bytes(b"")
    (kept / "last").symlink_to("deep/a")
    (kept / "b.part").write_bytes(b"half")
    folder.take()
    state = folder.state_dict()
    assert state["order"] == ["z", "deep/a"]
    (kept / "z").write_bytes(b"newer")
    (kept / "other").write_bytes(b"later")
    folder.load_state_dict(state)
    assert sorted(folder.look()) == ["deep/a", "last", "z"]
    assert (kept / "z").read_bytes() == b"older"
    assert os.readlink(kept / "last") == "deep/a"
    assert not (kept / "b.part").exists()
    assert (kept / "z").stat().st_mtime < (kept / "deep/a").stat().st_mtime


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda kept: (kept / "big").write_bytes(b"x" * 101), "let the command delete its older checkpoints"),
        (lambda kept: [(kept / str(n)).touch() for n in range(4)], "holds 4 files"),
        (lambda kept: (kept / "out").symlink_to("../secret"), "leads out of the folder"),
        (lambda kept: (kept / "out").symlink_to("/etc/passwd"), "leads out of the folder"),
        (lambda kept: (kept / "new\nline").touch(), "cannot be kept"),
    ],
)
def test_what_cannot_travel_is_not_taken(folder, tmp_path, make, sentence):
    make(tmp_path / "kept")
    with pytest.raises(NotTaken, match=sentence):
        folder.take()
    assert folder.state_dict() == {"files": {}, "links": {}, "order": []}


def test_a_pipe_in_the_folder_is_passed_over(folder, tmp_path):
    os.mkfifo(tmp_path / "kept/pipe")
    assert folder.look() == {}


@pytest.mark.parametrize("of", ["folder", "file"])
def test_what_takes_the_place_of_the_folder_is_neither_read_nor_emptied(folder, tmp_path, of):
    (tmp_path / "kept/at").write_bytes(b"7")
    folder.take()
    state = folder.state_dict()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/others").touch()
    (tmp_path / "kept/at").unlink()
    (tmp_path / "kept").rmdir()
    if of == "folder":
        (tmp_path / "kept").symlink_to(tmp_path / "shared")
    else:
        (tmp_path / "kept").touch()
    assert folder.look() == {}
    with pytest.raises(NotTaken, match="write into the folder that it finds"):
        folder.take()
    with pytest.raises(Refused, match="something else was put into the place"):
        folder.put_back(state)
    assert (tmp_path / "shared/others").exists()


def test_a_folder_that_is_gone_is_empty_and_comes_back(folder, tmp_path):
    (tmp_path / "kept/at").write_bytes(b"7")
    folder.take()
    state = folder.state_dict()
    (tmp_path / "kept/at").unlink()
    (tmp_path / "kept").rmdir()
    assert folder.look() == {}
    folder.put_back(state)
    assert (tmp_path / "kept/at").read_bytes() == b"7"


@pytest.mark.parametrize("path", ["", "../other", "/tmp/x"])
def test_a_folder_that_is_not_its_own_is_refused(tmp_path, path):
    with pytest.raises(Refused, match="not a folder of its own"):
        CheckpointFolder(tmp_path / path, root=tmp_path)
