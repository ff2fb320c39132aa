"""docs/scripts.md: its code runs, and what it says of the examples is what they are."""

import json
import re
import shlex

import pytest

from heimdall.attached.checkpoint_folder import BEING_WRITTEN, MOST_BYTES, MOST_FILES
from heimdall.attached.command import CHECKPOINT_EVERY_MINUTES
from heimdall.attached.own_checkpoints import SETTLED_SECONDS, STILL_SECONDS
from heimdall.attached.program import Program
from heimdall.attached.warden import LEAVE_SECONDS, TERM_SECONDS
from tests.attached.scripts import EXAMPLES, ROOT, Attempts

PAGE = (ROOT / "docs/scripts.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
OURS = re.compile(r"\bheimdall\b|\bjob\.|\bworld\.place|\bworld\b = ")


@pytest.mark.processes
def test_its_loop_trains_and_is_resumed_exactly(tmp_path, launcher):
    script = tmp_path / "train.py"
    script.write_text(BLOCKS[0])
    attempts = Attempts(script, tmp_path, launcher)
    assert attempts.straight.step == 64
    assert attempts.stopped(16, 37).digest == attempts.straight.digest


def test_its_loop_has_five_lines_of_ours():
    marked = [line for line in BLOCKS[0].splitlines() if re.search(r"# \d$", line)]
    assert marked == [line for line in BLOCKS[0].splitlines() if OURS.search(line)]
    assert len(marked) == 5


@pytest.mark.parametrize("example", ["hugging_face", "lightning"])
def test_its_line_for_a_trainer_is_that_of_the_example(example):
    assert BLOCKS[1].strip() in (EXAMPLES / example / "train.py").read_text().splitlines()


def test_it_counts_the_lines_that_the_programs_changed():
    rows = re.findall(r"^\| `examples/(\w+)/([\w.]+)` \|[^|]*\| (\d+) \|", PAGE, re.MULTILINE)
    assert {row[0] for row in rows} == {"gan", "ppo", "diffusion", "numbers", "shell"}
    for example, name, count in rows:
        lines = (EXAMPLES / example / name).read_text().split('"""')[-1].splitlines()
        ours = [line for line in lines if OURS.search(line)]
        assert len(ours) == int(count), (example, ours)


def test_its_two_ways_of_saying_a_command_are_one():
    """The test of commands runs the JSON; here is the line of the shell beside it."""
    said = json.loads(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)[1])
    line = re.search(r"^manage.py (job submit --program .*?)```", PAGE, re.DOTALL | re.MULTILINE)[1]
    words = shlex.split(line.replace("\\\n", ""))
    assert words[words.index("--") + 1 :] == said["command"]
    assert f"--resume-argument={said['resume_arguments'][0]}" in words
    assert words[words.index("--metric") + 1] == said["metric_patterns"][0]
    assert words[words.index("--checkpoint-folder") + 1] == said["checkpoint_folder"]


def test_the_numbers_that_it_names_are_those_of_the_code():
    assert Program(command=["x"]).grace_seconds == 30
    assert "how long it may take (30)" in PAGE
    assert (MOST_FILES, MOST_BYTES, SETTLED_SECONDS, STILL_SECONDS) == (10_000, 8 * 2**30, 2, 1)
    assert (TERM_SECONDS, LEAVE_SECONDS, CHECKPOINT_EVERY_MINUTES, BEING_WRITTEN) == (
        5,
        1,
        10,
        (".part", ".tmp"),
    )
