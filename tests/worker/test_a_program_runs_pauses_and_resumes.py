"""Programs as people run them: brought over REST, run by a real worker, paused, resumed and completed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from heimdall.trainer.launch import IMPORTABLE
from tests.support.programs import bring, example
from tests.support.running import Site, running

pytestmark = pytest.mark.processes
SECRET = "correct horse battery"
EPOCHS = 120
# Beside what the example prints: a digest of what was learnt, and a secret that comes in two pieces.
TOLD = """
import hashlib, os, sys, time
weights = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
print("learnt", hashlib.sha256(weights).hexdigest(), best.loss)
secret = os.environ.get("API_KEY", "")
sys.stdout.write("the key is " + secret[:7]); sys.stdout.flush()
time.sleep(0.3)
print(secret[7:], "for", os.environ.get("PLACE"))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    environments = f"here={sys.executable}"
    folder = tmp_path_factory.mktemp("site")
    with running(folder, HEIMDALL_ENVIRONMENTS=environments, UV_OFFLINE="1", HEIMDALL_SLOTS="2") as site:
        yield site


def loop_script() -> str:
    text = example("loop")["train.py"].replace('"epochs": 4', f'"epochs": {EPOCHS}')
    assert f'"epochs": {EPOCHS}' in text
    return text + textwrap.dedent(TOLD)


def submit(site: Site, files: dict[str, str], *command: str, **fields) -> int:
    body = {"job_name": "a program", "program": {"command": list(command)}, "code": bring(site, files)}
    return site.post("/jobs", body | fields)["id"]


def printed(site: Site, job: int) -> str:
    return "".join(chunk["text"] for chunk in site.get(f"/jobs/{job}/logs")["results"])


def alone(folder, text: str) -> str:
    (folder / "train.py").write_text(text)
    environment = {
        **os.environ,
        "PYTHONPATH": IMPORTABLE,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=folder, env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout


def test_an_example_is_paused_and_resumed_and_ends_as_it_does_alone(site, tmp_path):
    text = loop_script()
    program = {"command": ["python", "train.py"], "variables": {"PLACE": "this test"}}
    job = submit(site, {"train.py": text}, program=program, secrets={"API_KEY": SECRET})
    shown = site.job(job)
    assert (shown["recipe"], shown["program"]["kind"]) == (None, "script")
    assert shown["promise"] == "not shown to be exact"
    site.wait_for_step(job, 1)
    site.pause(job, at="step")
    paused = site.wait_for_status(job, "paused", "completed", "failed")
    assert paused["status"] == "paused", paused
    assert 0 < paused["checkpoint"]["step"] < EPOCHS * 13
    site.verb(job, "resume")
    done = site.wait_for_status(job, "completed", "failed", seconds=120)
    assert done["status"] == "completed", done
    assert (done["attempt"], done["current_epoch"], done["progress_percent"]) == (2, EPOCHS, 100.0)
    assert len(site.metrics(job)) == done["current_step"] == site.final(job)["step"]
    said = printed(site, job)
    learnt = [line for line in said.splitlines() if line.startswith("learnt")]
    assert learnt
    assert learnt == [line for line in alone(tmp_path, text).splitlines() if line.startswith("learnt")]
    assert "the key is ******** for this test" in said
    assert SECRET not in said
    assert SECRET not in str(site.job(job)) + str(site.events(job)) + site.log


SHORT = example("loop")["train.py"]
BUILT = """
import sys
print("in", sys.prefix)
for step in range(3):
    print(f"loss={1 / (step + 1):.3f}", flush=True)
"""


def test_an_environment_is_built_by_uv_and_its_log_is_the_jobs(site):
    files = {"train.py": BUILT, "requirements.txt": ""}
    program = {"environment": "uv", "metric_patterns": ["loss=(?P<loss>[0-9.]+)"]}
    job = submit(site, files, program=program | {"command": ["python", "train.py"]})
    broken = submit(
        site,
        files | {"requirements.txt": "gone @ file:///nowhere/gone-1.0-py3-none-any.whl\n"},
        program=program | {"command": ["python", "train.py"]},
    )
    named = submit(
        site,
        {
            "train.py": "import heimdall\njob = heimdall.attach(config={'x': 1})\nprint('x is', job.config.x)\n"
        },
        program={"command": ["python", "train.py"], "environment": "here"},
        config={"x": 7},
    )
    done = site.wait_for_status(job, "completed", "failed")
    assert done["status"] == "completed", done
    assert (done["promise"], done["train_loss"]) == ("none", 0.333)
    assert len(site.metrics(job)) == 3
    said = printed(site, job)
    assert "Building the environment of requirements.txt with uv." in said
    assert "environments/" in said.partition("in ")[2]
    failed = site.wait_for_status(broken, "completed", "failed")
    assert (failed["status"], failed["error_code"], failed["attempt"]) == ("failed", "environment_failed", 1)
    assert "nowhere" in failed["error_message"]
    assert "nowhere" in printed(site, broken)
    assert site.wait_for_status(named, "completed", "failed")["status"] == "completed"
    assert "x is 7" in printed(site, named)


def test_a_check_shows_a_script_to_be_exact_and_another_not(site):
    chance = SHORT.replace("job.log(loss=loss)", "job.log(loss=loss.item() + __import__('time').time() % 1)")
    jobs = [submit(site, {"train.py": text}, "python", "train.py") for text in (SHORT, chance)]
    checks = [site.post(f"/jobs/{job}/check", {"steps": 12})["id"] for job in jobs]
    for job in (*jobs, *checks):
        site.wait_for_status(job, "completed", "failed", seconds=240)
    for check in checks:
        assert site.job(check)["status"] == "completed", printed(site, check)
    assert "EXACT: The same bits" in printed(site, checks[0])
    assert "NOT REPEATABLE" in printed(site, checks[1])
    assert [site.job(job)["promise"] for job in jobs] == ["exact", "not shown to be exact"]
    again = submit(site, {"train.py": SHORT}, "python", "train.py", config={"epochs": 2})
    site.wait_for_status(again, "completed", "failed")
    assert site.job(again)["promise"] == "exact"
    other = submit(site, {"train.py": SHORT}, "python", "train.py", "--other")
    site.wait_for_status(other, "completed", "failed")
    assert site.job(other)["promise"] == "not shown to be exact"
