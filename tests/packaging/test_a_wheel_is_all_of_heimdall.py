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
from pathlib import Path

import pytest

import heimdall
from heimdall import codec

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


def named(lines) -> dict[str, str]:
    found = (re.fullmatch(r"([A-Za-z0-9-]+(?:\[[a-z,]+\])?)[~=>]=([^,]+)(?:,.*)?", line) for line in lines)
    return {match[1].lower(): match[2] for match in found if match}


def test_the_extras_are_the_pinned_packages_and_the_base_needs_neither_django_nor_torch():
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    extras = PROJECT["optional-dependencies"]
    assert named([*PROJECT["dependencies"], *extras["torch"], *extras["server"]]) == named(lines)
    assert set(named(PROJECT["dependencies"])) == {"pydantic"}
    assert "heimdall[torch]" in extras["server"]
    assert {"torch", "numpy", "safetensors"} == set(named(extras["torch"]))
