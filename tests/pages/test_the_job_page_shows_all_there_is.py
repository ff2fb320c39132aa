import json
import re

import pytest

from heimdall.trainer.protocol import EpochDone, Started
from tests.pages.conftest import html, words
from tests.support.stored import stored_checkpoint
from training import services
from training.models import Checkpoint, TrainingJob
from training.store import checkpoints
from training.store.checkpoints import StoredCheckpoint

pytestmark = pytest.mark.django_db
HOSTILE = "<img src=x onerror=alert(1)>\"'</pre><script>alert(2)</script>"


@pytest.fixture
def attempt(alice, node):
    job = services.submit(
        by=alice, job_name=HOSTILE, description=HOSTILE, recipe="tiny", config={"epochs": 4}
    ).job
    attempt = services.claim(node, slot=0, pid=1)
    services.note_started(attempt, Started(0, 0, 16, approximate=[f"because {HOSTILE}"]))
    rows = [{"step": step, "epoch": 1 + (step - 1) // 4, "loss": 1 / step} for step in range(1, 6)]
    values = {"train_loss": 0.5, "val_loss": 0.4, "val_accuracy": 0.75, HOSTILE: 1.0}
    epoch = EpochDone(4, 1, values, best_epoch=1, best_val_loss=0.4)
    services.beat(
        attempt,
        services.Report(
            steps=rows, epochs=[epoch], log=f"hello {HOSTILE}\n", phase="training", step_seconds=2.0
        ),
    )
    assert job.pk == attempt.job_id
    return attempt


def page(client, job_id: int) -> str:
    answer = client.get(f"/jobs/{job_id}/")
    assert answer.status_code == 200
    return html(answer)


def test_progress_losses_time_left_and_settings_are_there(browse, alice, attempt):
    text = words(page(browse(alice), attempt.job_id))
    for part in ("Epoch 1 of 4", "Step 5 of 16", "31.2 %", "22 s", "0.5000", "0.4000", "Val accuracy 0.75"):
        assert part in text
    assert "Epochs 4 default 3" in text


def test_names_notes_logs_and_traces_are_shown_and_never_run(browse, alice, attempt):
    services.fail(attempt, code="recipe_error", message=f"ValueError: {HOSTILE}", exit_code=1)
    client = browse(alice)
    for text in (page(client, attempt.job_id), html(client.get("/"))):
        assert "<img src=x" not in text
        assert "<script>alert" not in text
        assert "&lt;img src=x" in text
    text = page(client, attempt.job_id)
    assert "hello &lt;img" in text
    assert "ValueError: &lt;img" in text
    assert "exit code 1" in text


def test_a_signal_is_called_by_its_name(browse, alice, attempt):
    services.crash(attempt, exit_code=-9)
    assert "killed by SIGKILL" in page(browse(alice), attempt.job_id)


def test_the_history_tells_who_and_keeps_epochs_in_the_background(browse, alice, bob, team, attempt):
    TrainingJob.objects.filter(pk=attempt.job_id).update(team=team)
    services.pause(TrainingJob.objects.get(pk=attempt.job_id), by=bob, at="step")
    text = page(browse(alice), attempt.job_id)
    assert "Asked to pause at the next step. &middot; bob" not in text  # the name stands in its own element
    assert "Asked to pause at the next step." in text
    assert "bob</span>" in text
    assert '<li class="routine">' in text


def stored(attempt, step: int, content: bytes = b"weights") -> StoredCheckpoint:
    from django.core.files.base import ContentFile

    digest = f"{step:064}"
    name = f"jobs/{attempt.job_id}/a{attempt.number}/s{step}-{digest[:32]}.safetensors"
    checkpoints.checkpoint_storage().save(name, ContentFile(content))
    size = len(content)
    return stored_checkpoint(name, step=step, epoch=1, digest=digest, size=size, val_loss=0.4)


def test_checkpoints_can_be_downloaded_and_pinned(browse, alice, bob, team, attempt):
    row = services.record_checkpoint(attempt, stored(attempt, 4))
    client = browse(alice)
    text = page(client, attempt.job_id)
    assert "resume starts here" in text
    answer = client.get(f"/jobs/{attempt.job_id}/checkpoints/{row.pk}/")
    assert b"".join(answer.streaming_content) == b"weights"
    assert "attachment" in answer["Content-Disposition"]
    pin = f"/jobs/{attempt.job_id}/checkpoints/{row.pk}/pin/"
    assert client.post(pin, {"pinned": "1"}).status_code == 302
    assert Checkpoint.objects.get().pinned
    TrainingJob.objects.filter(pk=attempt.job_id).update(team=team)
    assert browse(bob).post(pin, {"pinned": "0"}).status_code == 403
    assert "/pin/" not in page(browse(bob), attempt.job_id)
    assert client.get(f"/jobs/{attempt.job_id}/checkpoints/{row.pk + 1}/").status_code == 404


def test_a_file_that_is_gone_is_said_in_words(browse, alice, attempt):
    checkpoints.leave_mark("of these tests")
    row = services.record_checkpoint(attempt, stored(attempt, 4))
    checkpoints.delete_file(row.file.name)
    answer = browse(alice).get(f"/jobs/{attempt.job_id}/checkpoints/{row.pk}/", follow=True)
    assert "missing" in words(html(answer))


def test_the_log_is_shown_without_what_steers_a_terminal(browse, alice, attempt):
    services.beat(attempt, services.Report(log="50%\x1b[A\x1b[1;31mred\x1b[0m\x1b]0;title\x07 done [1;2]\n"))
    services.beat(attempt, services.Report(log="a\r\n\r 10%|#\r 20%|##\rdrawn last\nbehind\r"))
    shown = html(browse(alice).get(f"/jobs/{attempt.job_id}/"))
    assert '50%<span class="ansi-bold ansi-1">red</span> done' in shown
    assert "50%red done [1;2]\na\ndrawn last\nbehind" in re.sub("<[^>]+>", "", shown)
    kept = b"".join(browse(alice).get(f"/jobs/{attempt.job_id}/log/").streaming_content)
    assert b"\x1b[A" in kept


def test_the_whole_log_is_a_text_file(browse, alice, attempt):
    services.beat(attempt, services.Report(log="more\n"))
    answer = browse(alice).get(f"/jobs/{attempt.job_id}/log/")
    assert answer["Content-Type"].startswith("text/plain")
    assert b"".join(answer.streaming_content).decode() == f"hello {HOSTILE}\nmore\n"


def test_a_job_whose_recipe_is_gone_can_still_be_seen(browse, alice, attempt):
    TrainingJob.objects.filter(pk=attempt.job_id).update(recipe="gone")
    assert "epochs" in page(browse(alice), attempt.job_id)


def test_the_page_is_light(browse, alice, attempt):
    import gzip
    from pathlib import Path

    text = page(browse(alice), attempt.job_id)
    static = Path(__file__).parents[2] / "static"
    files = [*static.glob("heimdall/*"), *static.glob("vendor/uplot/uPlot*")]
    weight = len(gzip.compress(text.encode())) + sum(len(gzip.compress(path.read_bytes())) for path in files)
    assert weight < 150_000
    assert json.dumps(text).isascii()
