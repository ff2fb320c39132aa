"""docs/scripts.md: its code runs, and what it says of the examples is what they are."""

import re

import pytest

from tests.attached.scripts import EXAMPLES, ROOT, Attempts, warm

PAGE = (ROOT / "docs/scripts.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
OURS = re.compile(r"\bheimdall\b|\bjob\.|\bworld\.place|\bworld\b = ")


@pytest.mark.processes
def test_its_loop_trains_and_is_resumed_exactly(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(BLOCKS[0])
    with warm() as launcher:
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
