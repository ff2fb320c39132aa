"""An error's own frames stand open and the machinery's are folded; a log keeps its colours and loses its commands."""

from types import SimpleNamespace

import pytest
from django.utils import timezone

from training.presentation.log_colors import shown_log
from training.presentation.tracebacks import last_line, parts_of

TRACE = """Traceback (most recent call last):
  File "/opt/heimdall/heimdall/engine/loop.py", line 176, in train
    self.step(batches)
  File "/opt/heimdall/heimdall/engine/assemble.py", line 90, in step
    loss = recipe.loss(model, batch)
           ^^^^^^^^^^^^^^^^^^^^^^^^
  File "/home/anna/waves/recipe.py", line 12, in loss
    return model(batch).mean()
  File "/opt/venv/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1, in __call__
    return forward(x)
RuntimeError: shapes (3, 4) and (5,) do not fit
"""


def test_frames_of_the_user_stand_between_folded_ones():
    parts = parts_of(TRACE)
    assert [(part.num_frames, part.is_machinery) for part in parts] == [
        (0, False), (2, True), (1, False), (1, True), (0, False),
    ]  # fmt: skip
    assert "recipe.py" in parts[2].text
    assert "^^^^" in parts[1].text
    assert parts[1].title == "2 frames of Heimdall and libraries"
    assert "\n".join(part.text for part in parts) == TRACE.rstrip("\n")


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (TRACE, "RuntimeError: shapes (3, 4) and (5,) do not fit"),
        ("It was out of memory.", "It was out of memory."),
        ("ValueError: one\n  two\n", "ValueError: one"),
        ("  only indented", "only indented"),
        ("", ""),
    ],
)
def test_the_last_line_says_what_happened(text, last):
    assert last_line(text) == last


def test_a_shipped_recipe_counts_as_the_users_own():
    shipped = 'Traceback:\n  File "/x/heimdall/recipes/localization/recipe.py", line 3, in loss\n    raise ValueError'
    assert not any(part.is_machinery for part in parts_of(shipped))


def log(*texts: str) -> str:
    return shown_log(SimpleNamespace(text=text, created_at=timezone.now()) for text in texts)


def test_colours_go_on_over_pieces_and_end_where_they_are_reset():
    text = log("\x1b[1;31mred", " still\x1b[0m plain")
    assert text.count('<span class="ansi-bold ansi-1">') == 2
    assert text.endswith("</span> plain</span>")


def test_markup_in_a_log_is_text():
    assert "&lt;script&gt;" in log("\x1b[32m<script>")
    assert "<script>" not in log("<script>")


def test_a_progress_bar_is_what_was_drawn_last_and_cursor_commands_are_gone():
    assert ">100 %\nnext</span>" in log("10 %\r50 %\r100 %\r\nnext\x1b[2K\x1b]0;title\x07")
