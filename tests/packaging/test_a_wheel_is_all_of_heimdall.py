"""`pip wheel .` makes a wheel that stands alone: built, put into a fresh environment and used from an empty folder.

Nothing is downloaded: the packages of the server come from the environment of these tests.
"""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import heimdall
from heimdall import codec
from tests.support.running import running

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS_BESIDE = sysconfig.get_path("purelib")


def run(*words, cwd, **environment) -> str:
    ours = ("HEIMDALL_", "DJANGO_", "DATABASE_URL", "REDIS_URL", "PYTHONPATH")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=clean | environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(
        *pip,
        "wheel",
        "--quiet",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        ".",
        cwd=ROOT,
    )
    [found] = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The scripts of an environment with the wheel and nothing else."""
    place = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", place, cwd=place)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", place / "bin" / "python")
    run(*pip, "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=place)
    return place / "bin"


def test_it_has_both_packages_with_templates_static_files_and_the_licence(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert wheel.name.startswith(f"heimdall-{heimdall.__version__}-py3-none-any")
    tracked = subprocess.run(
        ["git", "ls-files", "heimdall", "training", "templates", "static"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    expected = {re.sub("^(templates|static)/", r"heimdall/site/\1/", name) for name in tracked}
    assert len(expected) > 300 or not tracked  # an unpacked archive knows no git
    assert expected <= inside
    assert f"heimdall-{heimdall.__version__}.dist-info/licenses/LICENSE" in inside
    assert {name.split("/")[0] for name in inside} == {
        "heimdall",
        "training",
        f"heimdall-{heimdall.__version__}.dist-info",
    }


def test_without_any_other_package_it_is_imported_and_looks_at_a_checkpoint(installed, tmp_path):
    file = tmp_path / "one.safetensors"
    codec.save(file, {"progress": {"steps_completed": 7}}, {"recipe": "mine"})
    code = (
        "import heimdall; from heimdall import codec; import sys;"
        f"about = codec.read_about({str(file)!r});"
        "print(heimdall.__file__, heimdall.__version__, about, 'torch' in sys.modules, 'django' in sys.modules)"
    )
    said = run(installed / "python", "-c", code, cwd=tmp_path)
    assert str(installed.parent) in said
    assert "mine" in said
    assert said.split()[-2:] == ["False", "False"]


def test_the_installed_server_finds_its_pages_from_an_empty_folder(installed, tmp_path):
    server = installed / "heimdall-server"
    assert "no issues" in run(server, "check", cwd=tmp_path, PYTHONPATH=OURS_BESIDE)
    assert (tmp_path / "var").is_dir()
    assert "heimdall/site/static/heimdall/app.css" in run(
        server, "findstatic", "heimdall/app.css", cwd=tmp_path, PYTHONPATH=OURS_BESIDE
    )
    run(server, "migrate", cwd=tmp_path, PYTHONPATH=OURS_BESIDE)
    code = (
        "import heimdall, training, django; django.setup();"
        "from django.test import Client; answer = Client(headers={'host': 'localhost'}).get('/login/');"
        "print(answer.status_code, b'app.css' in answer.content, training.__file__)"
    )
    said = run(
        installed / "python",
        "-c",
        code,
        cwd=tmp_path,
        PYTHONPATH=OURS_BESIDE,
        DJANGO_SETTINGS_MODULE="heimdall.site.settings",
    ).split()
    assert said[-3:-1] == ["200", "True"]
    assert said[-1].startswith(str(installed.parent))


def distributions(names) -> dict[str, metadata.Distribution]:
    """These packages and what they need, by their names; without what only an extra needs."""
    found: dict[str, metadata.Distribution] = {}
    wanted = list(names)
    while wanted:
        requirement = Requirement(wanted.pop())
        is_needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if requirement.name not in found and is_needed:
            found[requirement.name] = metadata.distribution(requirement.name)
            wanted += found[requirement.name].requires or []
    return found


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with what `pip install heimdall` brings along, and nothing else."""
    folder = tmp_path_factory.mktemp("base")
    for one in distributions(PROJECT["dependencies"]).values():
        for top in {Path(str(file)).parts[0] for file in one.files or [] if ".." not in str(file)}:
            if not (folder / top).exists():
                (folder / top).symlink_to(one.locate_file(top))
    return folder


def test_the_base_is_the_client_and_nothing_more(installed, base, tmp_path):
    kept = {"PYTHONPATH": str(base)}
    code = "from importlib.util import find_spec; print([find_spec(name) for name in ('torch', 'django', 'numpy')])"
    assert run(installed / "python", "-c", code, cwd=tmp_path, **kept).strip() == "[None, None, None]"
    kept |= {"HEIMDALL_CONFIG_DIR": str(tmp_path / "config"), "HEIMDALL_KEYRING": "0"}
    heimdall = installed / "heimdall"
    with running(tmp_path, worker=False) as site:
        assert "You are admin" in run(
            heimdall, "login", site.url, "--token", site.token, cwd=tmp_path, **kept
        )
        run(heimdall, "submit", "tiny", "--name", "from a laptop", "--set", "epochs=1", cwd=tmp_path, **kept)
        assert "from a laptop" in run(heimdall, "ls", cwd=tmp_path, **kept)
        code = "from heimdall import Client; print([job.name for job in Client().jobs()])"
        assert "['from a laptop']" in run(installed / "python", "-c", code, cwd=tmp_path, **kept)
    words = [heimdall, "check", "--", "python", "train.py"]
    wanted = subprocess.run(words, env=os.environ | kept, capture_output=True)
    assert (wanted.returncode, b"heimdall[torch]" in wanted.stderr) == (1, True)


def named(lines) -> dict[str, str]:
    found = (re.fullmatch(r"([A-Za-z0-9-]+(?:\[[a-z,]+\])?)[~=>]=([^,]+)(?:,.*)?", line) for line in lines)
    return {match[1].lower(): match[2] for match in found if match}


def test_the_extras_are_the_pinned_packages_and_the_base_needs_neither_django_nor_torch():
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    extras = PROJECT["optional-dependencies"]
    assert named([*PROJECT["dependencies"], *extras["server"]]) == named(lines)
    base = {"pydantic", "httpx", "websockets", "typer", "rich", "typing-extensions", "cryptography"}
    assert set(named(PROJECT["dependencies"])) == base
    assert {"torch", "numpy", "safetensors"} == set(named(extras["torch"])) <= set(named(extras["server"]))
