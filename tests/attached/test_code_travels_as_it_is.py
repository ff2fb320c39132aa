"""A folder's code becomes one file that is named by its content, and comes out as it went in, or not at all."""

import gzip
import io
import os
import subprocess
import tarfile

import pytest

from heimdall.code_archive import BadArchive, examine, pack, read_text, unpack


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "project"
    (root / "pkg").mkdir(parents=True)
    (root / "train.py").write_text("print('hello')\n")
    (root / "pkg" / "\u00fcber.py").write_text("x = 1\n")
    (root / "go.sh").write_text("#!/bin/sh\n")
    (root / "go.sh").chmod(0o755)
    (root / "link.py").symlink_to("train.py")
    return root


def git(root, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)


def test_it_comes_out_as_it_went_in(folder, tmp_path):
    packed = pack(folder, tmp_path / "code.tar.gz")
    assert (packed.files, packed.size, packed.commit, packed.is_dirty) == (4, 31, "", False)
    unpack(packed.path, tmp_path / "out", digest=packed.digest)
    out = tmp_path / "out"
    assert (out / "train.py").read_text() == "print('hello')\n"
    assert (out / "pkg" / "\u00fcber.py").read_text() == "x = 1\n"
    assert os.access(out / "go.sh", os.X_OK)
    assert not os.access(out / "train.py", os.X_OK)
    assert os.readlink(out / "link.py") == "train.py"
    assert examine(packed.path) == (packed.digest, ["go.sh", "link.py", "pkg/\u00fcber.py", "train.py"], 31)
    assert read_text(packed.path, "train.py") == "print('hello')\n"


def test_the_digest_names_the_content_and_nothing_else(folder, tmp_path):
    first = pack(folder, tmp_path / "1")
    os.utime(folder / "train.py", (1, 1))
    assert pack(folder, tmp_path / "2").digest == first.digest
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    (folder / "train.py").chmod(0o755)
    changed = {first.digest, pack(folder, tmp_path / "3").digest}
    (folder / "train.py").write_text("print('hallo')\n")
    changed.add(pack(folder, tmp_path / "4").digest)
    (folder / "train.py").rename(folder / "main.py")
    (folder / "link.py").unlink()
    changed.add(pack(folder, tmp_path / "5").digest)
    assert len(changed) == 4


def test_what_git_ignores_stays_behind_and_the_commit_is_noted(folder, tmp_path):
    (folder / ".gitignore").write_text("data/\n")
    (folder / "data").mkdir()
    (folder / "data" / "large.bin").write_bytes(bytes(1000))
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    clean = pack(folder, tmp_path / "1")
    assert len(clean.commit) == 40
    assert not clean.is_dirty
    (folder / "new.py").write_text("")
    (folder / "go.sh").unlink()
    dirty = pack(folder, tmp_path / "2")
    assert dirty.is_dirty
    assert examine(dirty.path)[1] == [".gitignore", "link.py", "new.py", "pkg/\u00fcber.py", "train.py"]


def test_without_git_caches_and_environments_stay_behind(folder, tmp_path):
    for name in (".venv", "__pycache__", "pkg/__pycache__"):
        (folder / name).mkdir()
        (folder / name / "x.pyc").write_text("")
    assert pack(folder, tmp_path / "1").files == 4


def test_too_much_is_refused_and_the_largest_files_are_named(folder, tmp_path):
    (folder / "weights.bin").write_bytes(bytes(5000))
    with pytest.raises(BadArchive, match=r"The largest files: weights.bin \(0.0 MB\).*\.gitignore"):
        pack(folder, tmp_path / "1", max_bytes=4000)
    with pytest.raises(BadArchive, match="holds 5 files; 3 may travel"):
        pack(folder, tmp_path / "1", max_files=3)


@pytest.mark.parametrize("leads_to", ["../outside", "/etc/passwd", "pkg/../../outside"])
def test_a_link_out_of_the_folder_is_refused(folder, tmp_path, leads_to):
    (folder / "bad").symlink_to(leads_to)
    with pytest.raises(BadArchive, match="bad is a link that leads out"):
        pack(folder, tmp_path / "1")


def test_a_pipe_is_refused(folder, tmp_path):
    os.mkfifo(folder / "pipe")
    with pytest.raises(BadArchive, match="pipe is neither a file nor a link"):
        pack(folder, tmp_path / "1")


def evil(path, *members):
    with tarfile.open(path, "w:gz") as tar:
        for name, kind, leads_to in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, leads_to
            info.size = 3 if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(b"abc") if info.size else None)
    return path


@pytest.mark.parametrize(
    "member",
    [
        ("../out", tarfile.REGTYPE, ""),
        ("/etc/x", tarfile.REGTYPE, ""),
        ("a/../../x", tarfile.REGTYPE, ""),
        ("dev", tarfile.CHRTYPE, ""),
        ("pipe", tarfile.FIFOTYPE, ""),
        ("hard", tarfile.LNKTYPE, "/etc/passwd"),
        ("soft", tarfile.SYMTYPE, "../../etc"),
        ("soft", tarfile.SYMTYPE, "/etc"),
        ("../folder", tarfile.DIRTYPE, ""),
    ],
)
def test_an_archive_that_would_write_elsewhere_is_refused(tmp_path, member):
    path = evil(tmp_path / "evil", ("fine.py", tarfile.REGTYPE, ""), member)
    with pytest.raises(BadArchive):
        unpack(path, tmp_path / "out")
    with pytest.raises(BadArchive):
        examine(path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["evil", "out"]


FILE, LINK = tarfile.REGTYPE, tarfile.SYMTYPE


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([("a", FILE, ""), ("a/b", FILE, "")], "as a file and as a folder"),
        ([("a/b", FILE, ""), ("a", FILE, "")], "as a file and as a folder"),
        ([("d", LINK, "."), ("d/x", FILE, "")], "as a file and as a folder"),
        ([("a/b/deep", LINK, "../.."), ("y", LINK, "a/b/deep/../outside")], "link that leads out"),
        ([("y", LINK, "a/b/deep/../outside"), ("a/b/deep", LINK, "../..")], "link that leads out"),
        ([("y", LINK, "a\udcff")], "link that leads out"),
        ([("b\udcff.py", FILE, "")], "no text in UTF-8"),
        ([("a\nb.py", FILE, "")], "a line break or another sign"),
        ([("\x1b[2J.py", FILE, "")], "a line break or another sign"),
        ([("n" * 256, FILE, "")], "than 255 bytes"),
        ([("a/" * 250 + "b", FILE, "")], "than 500 characters"),
    ],
    ids=["below", "above", "by link", "up a link", "up later", "link", "bytes", "lines", "terminal", "name", "path"],
)  # fmt: skip
def test_what_could_not_be_unpacked_or_leads_out_by_another_link_is_refused_when_it_comes(
    tmp_path, members, why
):
    path = evil(tmp_path / "evil", *members)
    with pytest.raises(BadArchive, match=why):
        examine(path)
    with pytest.raises(BadArchive, match=why):
        unpack(path, tmp_path / "out")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["evil", "out"]


def test_a_size_below_nothing_is_refused(tmp_path):
    with tarfile.open(tmp_path / "evil", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,0",
                            "GNU.sparse.size": "-5"}  # fmt: skip
        tar.addfile(info)
    with pytest.raises(BadArchive):
        examine(tmp_path / "evil")


def test_headers_before_headers_without_end_are_refused(tmp_path):
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 2
    header = long.tobuf(tarfile.GNU_FORMAT) + b"a\0".ljust(512, b"\0")
    (tmp_path / "evil").write_bytes(
        gzip.compress(header * 3_000 + tarfile.TarInfo("a").tobuf() + bytes(1024))
    )
    with pytest.raises(BadArchive, match="cannot be read"):
        examine(tmp_path / "evil")


def test_a_time_that_is_none_is_left_out(tmp_path):
    with tarfile.open(tmp_path / "odd", "w:gz", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"mtime": "inf"}
        tar.addfile(info)
    unpack(tmp_path / "odd", tmp_path / "out")
    assert (tmp_path / "out" / "a").stat().st_mtime == 0


def test_links_in_a_circle_lead_nowhere(folder, tmp_path):
    path = evil(tmp_path / "evil", ("a.py", LINK, "b.py"), ("b.py", LINK, "a.py"), ("c.py", LINK, "c.py"))
    for name in examine(path)[1]:
        with pytest.raises(KeyError):
            read_text(path, name)
    (folder / "circle").symlink_to("circle")
    with pytest.raises(BadArchive, match="circle is a link"):
        pack(folder, tmp_path / "1")


def test_a_name_that_is_no_text_is_named_where_the_code_is_packed(folder, tmp_path):
    git(folder, "init", "-q")
    (folder / os.fsdecode(b"caf\xe9.py")).write_text("")
    with pytest.raises(BadArchive, match=r"'caf\\udce9.py' is no text in UTF-8: rename it"):
        pack(folder, tmp_path / "1")


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path):
    path = tmp_path / "bomb"
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo("zeros")
        info.size = 50_000_000
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    assert path.stat().st_size < 100_000
    with pytest.raises(BadArchive, match="more than 10 MB"):
        unpack(path, tmp_path / "out", max_bytes=10_000_000)


@pytest.mark.parametrize(
    "damage",
    [b"", b"no archive at all", gzip.compress(b"neither a tar" * 100)],
    ids=["empty", "text", "gzip that is no tar"],
)
def test_what_is_no_archive_is_refused(tmp_path, damage):
    path = tmp_path / "broken"
    path.write_bytes(damage)
    with pytest.raises(BadArchive):
        examine(path)


def test_another_digest_is_refused(folder, tmp_path):
    packed = pack(folder, tmp_path / "1")
    with pytest.raises(BadArchive, match="its digest differs"):
        unpack(packed.path, tmp_path / "out", digest="0" * 64)
