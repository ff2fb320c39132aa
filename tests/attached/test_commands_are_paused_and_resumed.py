"""Any program is a job: it is paused with its own checkpoint where it makes one, and goes on from there."""

import json
import os
import re
import shutil
import time
from dataclasses import replace

import pytest

from heimdall import codec
from heimdall.trainer.protocol import Exit, FileStored, GoOn, StopTraining
from tests.attached.commands import EXAMPLES, Led, bash, command_spec, python

pytestmark = pytest.mark.processes

PAGE = (EXAMPLES.parent / "docs/scripts.md").read_text()

NUMBERS = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])  # as the page says it
# It counts to a thousand, and writes how far it came when it is asked to leave.
COUNTS = """
import os, signal, sys, time
at = int(open('kept/at').read()) if os.path.exists('kept/at') else 0
def leave(*_):
    open('kept/at.part', 'w').write(str(at)); os.rename('kept/at.part', 'kept/at'); sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print('begins at', at, *sys.argv[1:])
while at < 1000:
    at += 1; print('value:', at); time.sleep(0.01)
"""
KEEPS = {"checkpoint_folder": "kept", "metric_patterns": [r"value: (?P<value>\d+)"]}


def numbers(folder, **fields):
    folder.mkdir()
    shutil.copy(EXAMPLES / "numbers/train.py", folder)
    return command_spec(folder, **(NUMBERS | fields))


def finished(led: Led):
    led.until("finished")
    led.trainer.send(Exit())
    assert led.exit_status() == 0
    return led.rows


def test_a_program_with_its_own_checkpoints_gives_what_it_gives_undisturbed(lead, tmp_path):
    undisturbed = finished(lead(numbers(tmp_path / "straight")))
    assert [row["step"] for row in undisturbed] == list(range(1, 121))

    first = lead(numbers(tmp_path / "one"))
    first.until_step(20)
    paused = first.stop()
    first.trainer.send(Exit())
    assert first.exit_status() == 0
    assert 20 <= paused.step == first.rows[-1]["step"] < 120
    state = codec.load(paused.path, digest=paused.digest)[0]
    assert json.loads(bytes(state["files"]["files"]["state.json"].tolist()))["round"] == paused.step

    # In a new folder, as on another host.
    second = lead(numbers(tmp_path / "two", resumes=paused))
    assert second.until("started").step == paused.step
    assert first.rows + finished(second) == undisturbed
    assert second.of("staged")[-1].kinds == ("final",)


def test_a_loop_of_bash_goes_on_where_it_was(lead, tmp_path):
    def count(folder, **fields):
        folder.mkdir()
        shutil.copy(EXAMPLES / "shell/count.sh", folder)
        patterns = [r"step=(?P<step>\d+) value=(?P<value>\d+)"]
        words = ["./count.sh", "60", "0.02"]
        return command_spec(
            folder, words, checkpoint_folder="checkpoints", metric_patterns=patterns, **fields
        )

    first = lead(count(tmp_path / "one"))
    first.until_step(3)
    paused = first.stop()
    rest = finished(lead(count(tmp_path / "two", resumes=paused)))
    values = {row["step"]: row["value"] for row in first.rows + rest}
    assert values == {step: (step - 1) ** 2 for step in range(1, 61)}


def test_a_withdrawn_stop_starts_it_again_from_what_it_saved(lead, code):
    led = lead(command_spec(code, python(COUNTS), resume_arguments=["--on"], **KEEPS))
    led.until_step(3)
    paused = led.stop()
    led.trainer.send(FileStored(paused.path))
    led.trainer.send(GoOn())
    led.until_step(paused.step + 3)
    assert f"begins at {paused.step} --on" in led.log
    assert led.log.startswith("begins at 0\n")
    assert [row["value"] for row in led.rows] == [float(row["step"]) for row in led.rows]
    again = led.stop()
    assert again.step > paused.step


def test_what_it_saves_by_itself_is_taken_over_where_it_stood(lead, code, tmp_path):
    saves = COUNTS.replace("time.sleep(0.01)", "time.sleep(0.02 if at != 7 else 0)") + "\n"
    saves = saves.replace("at += 1;", "at += 1; at == 7 and open('kept/at', 'w').write('7');")
    led = lead(command_spec(code, python(saves), config={"checkpoint_every_minutes": 0.001}, **KEEPS))
    staged = led.until("staged")
    assert staged.kinds == ("periodic",)
    # The log was read some steps later than the file was written.
    assert 7 <= staged.step < led.rows[-1]["step"]
    led.trainer.kill()
    again = tmp_path / "again"
    again.mkdir()
    second = lead(command_spec(again, python(COUNTS), resumes=staged, **KEEPS))
    second.until_it_says("begins at 7")


@pytest.mark.parametrize("keeps", [True, False])
def test_one_that_saves_nothing_is_stopped_at_step_0_and_says_so(lead, code, keeps):
    fields = KEEPS if keeps else {"metric_patterns": KEEPS["metric_patterns"]}
    led = lead(command_spec(code, bash("echo value: 1; mkdir -p kept; sleep 60"), **fields))
    led.until_step(1)
    if keeps:
        (code / "kept/half.part").write_text("x")
    paused = led.stop()
    assert (paused.step, paused.epoch) == (0, 0)
    (told,) = led.of("checkpoint_failed")
    assert told.kinds == ("pause",)
    assert "nothing is kept, and it begins again at step 0" in told.error


def test_a_stop_without_a_new_file_stands_at_the_last_complete_one(lead, code, tmp_path):
    command = bash(
        "echo value: 1; mkdir -p kept; echo one > kept/a; while sleep 0.05; do echo value: 2; done"
    )
    first = lead(command_spec(code, command, config={"checkpoint_every_minutes": 0.001}, **KEEPS))
    periodic = first.until("staged")
    first.until_step(periodic.step + 5)
    paused = first.stop()
    assert paused.step == periodic.step < first.rows[-1]["step"]
    assert (
        "left no new complete file in kept; the job stands at step" in first.of("checkpoint_failed")[0].error
    )


def test_one_that_ignores_the_signal_is_ended(lead, code):
    stubborn = "trap '' TERM USR1; echo value: 1; while true; do sleep 0.1; done"
    led = lead(command_spec(code, bash(stubborn), pause_signal="USR1", grace_seconds=0.3, **KEEPS))
    led.until_step(1)
    began = time.monotonic()
    assert led.stop().step == 0
    assert time.monotonic() - began > 5  # the grace, and the time that TERM has


def test_one_that_saves_and_stays_is_ended_with_what_it_saved(lead, code):
    """As programs do that save at USR1 and leave when they are killed."""
    stays = COUNTS.replace("SIGTERM", "SIGUSR1").replace("sys.exit(0)", "time.sleep(60)")
    led = lead(command_spec(code, python(stays), pause_signal="USR1", grace_seconds=2.5, **KEEPS))
    led.until_step(3)
    paused = led.stop()
    state = codec.load(paused.path, digest=paused.digest)[0]
    assert bytes(state["files"]["files"]["at"].tolist()) == str(paused.step).encode()


def test_what_it_was_still_writing_is_not_trusted(lead, code):
    writes = (
        "trap 'while true; do echo x >> kept/log; done' TERM; echo value: 1; while true; do sleep 0.01; done"
    )
    led = lead(command_spec(code, bash(writes), grace_seconds=0.5, **KEEPS))
    led.until_step(1)
    assert led.stop().step == 0
    assert "still writing log after 0.5 s" in led.of("checkpoint_failed")[0].error


def test_one_that_fails_while_it_saves_is_not_trusted(lead, code):
    fails = "trap 'echo half > kept/at; exit 3' TERM; echo value: 1; while true; do sleep 0.01; done"
    led = lead(command_spec(code, bash(fails), **KEEPS))
    led.until_step(1)
    assert led.stop().step == 0
    assert "exit code 3" in led.of("checkpoint_failed")[0].error


def test_a_stop_at_the_end_of_an_epoch_is_one_now(lead, code):
    led = lead(command_spec(code, python(COUNTS), **KEEPS))
    led.until_step(2)
    led.trainer.send(StopTraining("epoch"))
    assert led.until("stopped").step >= 2


def test_a_damaged_or_foreign_checkpoint_is_refused(lead, code, tmp_path):
    state = {"log": {"step": 1, "epoch": 0, "own_step": None, "base": 0}}
    import torch

    outside = {"files": {"../out": torch.zeros(3, dtype=torch.uint8)}, "links": {}, "order": ["../out"]}
    saved = codec.save(tmp_path / "bad.safetensors", state | {"files": outside}, {"step": 1})
    spec = command_spec(code, python(COUNTS), **KEEPS)
    led = lead(replace(spec, checkpoint=str(saved.path), expected={"digest": saved.digest}))
    assert "names a file that leads out of its folder: '../out'" in led.until("failed").error
    assert not os.path.exists(code / "out")
