"""A program runs in the Python that it names; one that uv builds is built once, and says why where it cannot be."""

import os
import subprocess
import sys
import time
import zipfile
from types import SimpleNamespace

import pytest

from training.runner import environments
from training.runner.environments import EnvironmentFailed, EnvironmentSearch, NoSuchEnvironment


@pytest.fixture
def home(settings, tmp_path, monkeypatch):
    settings.DATA_DIR = tmp_path / "data"
    monkeypatch.setenv("UV_OFFLINE", "1")
    return settings.DATA_DIR / "environments"


@pytest.fixture
def code(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


@pytest.fixture
def search(code):
    """Searches whose environments are given back at the end of the test."""
    found = []

    class Search(EnvironmentSearch):
        def run(self):
            found.append(super().run())
            return found[-1]

    def make(code, *, environment="uv", kind="command", directory=""):
        program = {"environment": environment, "kind": kind, "directory": directory}
        return Search(SimpleNamespace(program=program), code)

    yield make
    for environment in found:
        environment.close()


def wheel(folder, name="tiny", text="ANSWER = 42\n"):
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", text)
        info = f"{name}-1.0.dist-info"
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return path


def told(python, text):
    return subprocess.run([python, "-c", text], capture_output=True, text=True, check=True).stdout.strip()


def test_one_is_built_from_the_requirements_once(home, code, search, tmp_path):
    (code / "src").mkdir()
    (code / "src" / "requirements.txt").write_text(f"tiny @ {wheel(tmp_path).as_uri()}\n")
    first = search(code, directory="src")
    with_it = first.run()
    assert told(with_it.python, "import tiny; print(tiny.ANSWER)") == "42"
    log = first.take_log()
    assert "Building the environment of src/requirements.txt" in log
    assert "tiny" in log
    again = search(code)  # from the folder above it finds none
    with pytest.raises(EnvironmentFailed, match=r"no uv\.lock"):
        again.run()
    second = search(code, directory="src")
    assert second.run().python == with_it.python  # while the first one uses it
    assert second.take_log() == ""
    assert "HEIMDALL_DATA_DIR" not in environments._build_environment("x")


def test_one_is_built_from_a_project_and_its_lock(home, code, search, tmp_path):
    needs = f'dependencies = ["tiny @ {wheel(tmp_path).as_uri()}"]'
    (code / "pyproject.toml").write_text(
        f'[project]\nname = "mine"\nversion = "0"\nrequires-python = ">=3.10"\n{needs}\n'
    )
    found = search(code).run()
    assert told(found.python, "import tiny; print(tiny.ANSWER)") == "42"
    found.close()
    subprocess.run([environments.uv.find_uv_bin(), "lock", "-q", "--offline"], cwd=code, check=True)
    locked = search(code).run()
    assert locked.python != found.python
    assert told(locked.python, "import tiny; print(tiny.ANSWER)") == "42"


def test_a_build_that_fails_names_its_last_lines_and_is_tried_again(home, code, search, tmp_path):
    requirements = code / "requirements.txt"
    requirements.write_text(f"gone @ {(tmp_path / 'gone-1.0-py3-none-any.whl').as_uri()}\n")
    failing = search(code)
    with pytest.raises(EnvironmentFailed, match=r"exit code \d+\). Its last lines:\n(?s:.*)gone"):
        failing.run()
    assert "gone" in failing.take_log()
    wheel(tmp_path, "gone")
    assert told(search(code).run().python, "import gone; print(gone.ANSWER)") == "42"


def test_a_script_needs_torch_in_it_and_a_command_does_not(home, code, search):
    (code / "requirements.txt").write_text("")
    with pytest.raises(EnvironmentFailed, match="lacks torch and numpy and pydantic"):
        search(code, kind="script").run()
    assert search(code, kind="command").run().python


def test_a_build_that_nobody_waits_for_is_stopped(home, code, search, tmp_path):
    (code / "requirements.txt").write_text("")
    stopped = search(code)
    stopped.stop()
    with pytest.raises(EnvironmentFailed, match="ended by a signal"):
        stopped.run()
    assert search(code).run().python


def test_a_named_one_is_the_hosts(home, code, search, settings):
    settings.ENVIRONMENTS = {"here": sys.executable, "gone": "/nowhere/python"}
    assert search(code, environment="here", kind="script").run().python == sys.executable
    for name in ("gone", "unknown"):
        with pytest.raises(NoSuchEnvironment, match=name):
            search(code, environment=name).run()


def test_what_nobody_uses_is_removed_and_what_is_used_stays(home, code, search):
    (code / "requirements.txt").write_text("")
    found = search(code).run()
    (ready,) = home.glob("*.env/ready")
    long_ago = time.time() - environments.UNUSED_SECONDS - 60
    os.utime(ready, (long_ago, long_ago))
    environments.sweep_environments()
    assert ready.exists()
    found.close()
    environments.sweep_environments()
    assert not ready.parent.exists()


def test_a_python_that_is_asked_for_its_packages_gets_no_setting_of_ours(
    code, search, settings, tmp_path, monkeypatch
):
    """What is installed in an environment may run at every start of its Python."""
    seen, python = tmp_path / "seen", tmp_path / "python"
    python.write_text(f"#!/bin/sh\nenv > {seen}\n")
    python.chmod(0o755)
    settings.ENVIRONMENTS = {"own": str(python)}
    for name in ("HEIMDALL_SECRET_KEY", "DATABASE_URL", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a secret of Heimdall")
    search(code, environment="own", kind="script").run()
    assert "PATH=" in seen.read_text()
    assert "a secret of Heimdall" not in seen.read_text()
