"""However a script ends, what it trained is there, and what it said is told."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from heimdall.check.compare import first_difference
from tests.attached.scripts import Attempts, ended, spec_of, written
from tests.support.running import PATIENCE

pytestmark = pytest.mark.processes

BEGINNING = """
import torch, heimdall
torch.manual_seed(0)
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
job = heimdall.attach(model=model, optimizer=optimizer)

def step(batch):
    loss = (model(torch.full((1, 2), float(batch))) - 1).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    job.log(loss=loss)

"""
LOOP = """
for epoch in job.epochs(3):
    for batch in job.batches(range(4)):
        step(batch / 4)
"""
ENDLESS = """
import itertools, time
for batch in job.batches(range(10**9)):
    step(batch % 4 / 4)
    time.sleep(0.001)
"""


@pytest.fixture
def run(launcher, tmp_path):
    def run(text: str, **options):
        return ended(spec_of(tmp_path, written(tmp_path, text)), launcher, **options)

    return run


def assert_whole(found) -> None:
    assert found.code == 0, found.log
    assert [row["step"] for row in found.rows] == list(range(1, 13))
    assert found.of("finished")[0].step == 12
    assert found.of("staged")[-1].kinds == ("final",) or "final" in found.of("staged")[-1].kinds


def test_it_comes_to_its_end(run):
    found = run(BEGINNING + LOOP)
    assert_whole(found)
    assert {message.total_steps for message in found.of("steps")} == {12}  # as long as its loader says


def test_an_error_is_told_in_a_sentence_and_the_last_rows_are_there(run):
    found = run(BEGINNING + LOOP + "        if job.step == 6: raise ValueError('no file data/train.csv')\n")
    assert found.code not in (0, None)
    assert found.failure.code == "script_error"
    assert found.failure.error == "ValueError: no file data/train.csv"
    assert "in <module>" in found.failure.traceback
    # The optimizer had stepped once more in the body that raised.
    assert [row["step"] for row in found.rows] == [1, 2, 3, 4, 5, 6, 7]


def test_exit_with_zero_is_a_good_end(run):
    found = run(BEGINNING + LOOP + "        if job.step == 6: raise SystemExit(0)\n")
    assert found.code == 0
    assert found.of("finished")[0].step == 7
    assert not found.of("failed")


def test_exit_with_a_number_is_a_failure(run):
    said = "usage: train.py\\ntrain.py: error: --lr is missing"
    found = run(BEGINNING + LOOP + f"import sys; print('{said}', file=sys.stderr); sys.exit(3)\n")
    last = "train.py: error: --lr is missing"
    assert found.failure.error == f"The script ended with exit code 3. Last on stderr: {last}"
    assert found.failure.traceback == "usage: train.py\ntrain.py: error: --lr is missing"
    assert "usage: train.py\n" in found.log
    assert found.code not in (0, None)
    assert len(found.rows) == 12


def test_exit_with_a_text_says_the_text(run):
    found = run(BEGINNING + LOOP + "import sys; sys.exit('nothing to train on')\n")
    assert found.failure.error == "The script ended itself: nothing to train on"
    assert "nothing to train on" in found.log


def test_it_may_end_early_by_itself(run):
    found = run(BEGINNING + LOOP + "        if job.step == 5: break\n    if job.step == 6: break\n")
    assert found.code == 0
    assert found.of("finished")[0].step == 6
    assert [row["step"] for row in found.rows] == [1, 2, 3, 4, 5, 6]


def test_it_may_change_its_folder_and_the_environment(run, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    assert_whole(
        run(
            f"import os; os.chdir({str(away)!r}); os.environ.clear()\n"
            + BEGINNING
            + LOOP
            + "open('here', 'w').close()\n"
        )
    )
    assert (away / "here").exists()


def test_it_may_replace_what_it_prints_to(run, tmp_path):
    assert_whole(
        run(
            "import sys; sys.stdout = sys.stderr = open('own.log', 'w'); print('mine')\n"
            + BEGINNING
            + LOOP
            + "sys.stdout.close()\n"
        )
    )
    assert (tmp_path / "own.log").read_text() == "mine\n"


def test_an_error_is_told_though_its_streams_are_closed(run):
    found = run(
        "import sys; sys.stdout.close(); sys.stderr = None\n" + BEGINNING + LOOP + "raise KeyError('x')\n"
    )
    assert found.failure.error == "KeyError: 'x'"


def test_it_may_install_handlers_of_signals(run):
    assert_whole(
        run(
            """
import signal
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD):
    signal.signal(number, lambda *_: print("signalled"))
"""
            + BEGINNING
            + LOOP
        )
    )


def test_what_it_registered_for_its_exit_is_done_and_its_files_are_whole(run, tmp_path):
    found = run(
        "import atexit; atexit.register(lambda: open('ended', 'w').close())\nlog = open('log', 'w')\n"
        + BEGINNING
        + LOOP
        + "        log.write('x')\n"
    )
    assert_whole(found)
    assert (tmp_path / "ended").exists()
    assert (tmp_path / "log").read_text() == "x" * 12


def test_threads_are_waited_for_as_python_does_and_daemons_are_not(run, tmp_path):
    assert_whole(
        run(
            """
import threading, time, pathlib
def later():
    time.sleep(0.3)
    pathlib.Path("later").touch()
threading.Thread(target=later).start()
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
"""
            + BEGINNING
            + LOOP
        )
    )
    assert (tmp_path / "later").exists()


def test_processes_that_it_leaves_behind_end_with_it(run, tmp_path):
    assert_whole(
        run(
            BEGINNING
            + LOOP
            + "import subprocess; open('pid', 'w').write(str(subprocess.Popen(['sleep', '600']).pid))\n"
        )
    )
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10 * PATIENCE
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def test_a_fork_of_it_ends_for_itself_alone(run):
    found = run(
        BEGINNING
        + LOOP
        + "import os\nif os.fork() == 0: raise SystemExit(5)\nassert os.wait()[1] == 5 << 8\n"
    )
    assert_whole(found)
    assert len(found.of("finished")) == 1


STOPPED = {
    "it does not look": ENDLESS,
    "it catches everything": "try:\n"
    + "".join(f"    {line}\n" for line in ENDLESS.strip().splitlines())
    + "except:\n    print('caught')\n",
    "it begins again whatever happens": "while True:\n    try:\n"
    + "".join(f"        {line}\n" for line in ENDLESS.strip().splitlines())
    + "    except:\n        pass\n",
    "it ends with a number then": "try:\n"
    + "".join(f"    {line}\n" for line in ENDLESS.strip().splitlines())
    + "except BaseException:\n    raise SystemExit(1)\n",
    "it raises something else then": "try:\n"
    + "".join(f"    {line}\n" for line in ENDLESS.strip().splitlines())
    + "finally:\n    raise OSError('cleaning up')\n",
}


@pytest.mark.parametrize("loop", STOPPED.values(), ids=STOPPED)
def test_it_is_left_at_a_stop_whatever_it_catches(run, loop):
    found = run(BEGINNING + loop, stop_after_rows=3)
    assert found.code == 0, found.log
    (stopped,) = found.of("stopped")
    assert found.rows[-1]["step"] == stopped.step == found.of("staged")[-1].step
    assert not found.of("failed")
    assert not found.of("finished")


def test_a_stop_that_comes_in_a_validation_waits_until_that_is_over(run):
    found = run(
        BEGINNING
        + """
import time
for epoch in job.epochs(3):
    for batch in job.batches(range(1)):
        step(0.5)
    for batch in job.validation(range(3)):
        time.sleep(0.15)
        print("validated", batch, flush=True)
    job.log(val_loss=1.0 / (epoch + 1))
""",
        stop_after_rows=1,
    )
    (stopped,), (epoch,) = found.of("stopped"), found.of("epoch")
    assert (stopped.step, stopped.epoch, epoch.values["val_loss"]) == (1, 1, 1.0)
    assert [line for line in found.log.splitlines() if "validated" in line] == [
        f"validated {n}" for n in range(3)
    ]


def test_one_that_never_attaches_ends_well_and_says_that_nothing_of_it_was_saved(run):
    found = run("print('nothing to see')\n")
    assert found.code == 0
    assert found.of("finished")[0].step == 0
    assert "nothing that it trained was saved" in found.of("started")[0].approximate[0]
    assert "nothing to see" in found.log


def test_what_is_wrong_with_its_code_is_told(run):
    found = run("import a_package_that_is_not_there\n")
    assert found.failure.error == "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"
    assert "train.py" in found.failure.traceback


def test_a_package_that_is_another_one_at_a_resume_makes_it_approximate(launcher, tmp_path):
    """As in an environment that was built anew, or upgraded. It is said at each resume, not at the first alone."""
    script, package = written(tmp_path, "import helper\n" + BEGINNING + ENDLESS), tmp_path / "helper.py"
    said, spec = [], spec_of(tmp_path, script)
    for version in ("1.0", "1.0", "2.0.1", "2.0.1"):
        package.write_text(f"__version__ = {version!r}\n")
        found = ended(spec, launcher, stop_after_rows=3)
        said.append(found.of("started")[0].approximate)
        spec = replace(spec, checkpoint=found.of("staged")[-1].path)
    assert said == [[], [], *[["helper was 1.0 and is now 2.0.1"]] * 2]


def test_an_early_end_is_the_same_end_after_a_resume(launcher, tmp_path):
    """It leaves its loop in an epoch's middle, by what a kept value says."""
    script = written(
        tmp_path,
        BEGINNING
        + """
seen = job.values(batches=0)
for epoch in job.epochs(3):
    for batch in job.batches(range(4)):
        step(batch / 4)
        seen.batches += 1
        if seen.batches == 7:
            break
    if seen.batches >= 7:
        break
""",
    )
    attempts = Attempts(Path(script), tmp_path, launcher)
    stopped = attempts.stopped(3, 5)
    assert stopped.step == attempts.straight.step == 7
    assert not first_difference(attempts.straight.checkpoint, stopped.checkpoint)
