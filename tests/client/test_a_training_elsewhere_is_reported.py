"""A training that Heimdall did not start reports: in the background, later where the server is away, if it is asked.

TensorBoard's files go in, and out again.
"""

import os
import random
import runpy
import struct
import subprocess
import sys
import time

import pytest

from heimdall.attached.attach import supervise
from heimdall.attached.reporting import asked_for
from heimdall.client import event_files, exporting
from heimdall.client.importing import import_tensorboard, rows_of
from heimdall.client.pending_reports import CHARACTERS_AT_ONCE, ROWS_AT_ONCE, PendingReports
from heimdall.client.profiles import Profile
from heimdall.client.reporting import Reporter
from heimdall.errors import InvalidInput

SCRIPT = """
import sys
import torch
import heimdall

torch.manual_seed(0)
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loader = torch.utils.data.DataLoader([torch.tensor([float(n)]) / 8 for n in range(8)], batch_size=2)
job = heimdall.attach(model=model, optimizer=optimizer, config={"lr": 0.1})
for epoch in job.epochs(2):
    for batch in job.batches(loader):
        optimizer.zero_grad()
        loss = (model(batch) - batch).square().mean()
        loss.backward()
        optimizer.step()
        job.log(loss=loss)
    job.log(val_loss=1.0 - epoch / 10)
    if epoch == 1 and "break" in sys.argv:
        raise RuntimeError("the GPU is gone")
print(model.weight.item())
"""


def alone(tmp_path, site, *words, report) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    known = {"HEIMDALL_SERVER": site.url, "HEIMDALL_TOKEN": site.token}
    environment = os.environ | known | {"HEIMDALL_REPORT": report}
    command = [sys.executable, str(path), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.processes
def test_a_script_is_reported_where_it_asks_for_it_with_the_same_bits(
    client, site, logged_in, tmp_path, capsys
):
    (tmp_path / "silent.py").write_text(SCRIPT)
    supervise(None)
    try:
        runpy.run_path(str(tmp_path / "silent.py"), run_name="__main__")
    finally:
        supervise(None)
    silent = capsys.readouterr()
    assert silent.err == ""
    assert (
        list(client.jobs(job_type="external")) == []
    )  # nothing is sent unasked, whatever is known of a server

    told = alone(tmp_path, site, report="far away")
    assert (told.returncode, told.stdout) == (0, silent.out), told.stderr
    (job,) = client.jobs(job_type="external")
    assert f"heimdall: This training is reported as {job.url}" in told.stderr
    assert (job.name, job.status, job.fields.current_step, job.fields.current_epoch) == (
        "far away", "completed", 8, 2,
    )  # fmt: skip
    assert (job.fields.config, job.fields.total_epochs, job.fields.best_val_loss) == ({"lr": 0.1}, 2, 0.9)
    assert [row["step"] for row in job.metrics()] == list(range(1, 9))
    assert set(job.metrics(per="epoch")[0]) == {"step", "epoch", "train_loss", "val_loss"}

    broken = alone(tmp_path, site, "break", report="1")
    assert broken.returncode == 1
    newest = next(client.jobs(job_type="external"))
    assert (newest.name, newest.status) == ("train.py", "failed")
    assert newest.fields.error_message == "RuntimeError: the GPU is gone"
    newest.delete()
    job.delete()


@pytest.mark.processes
def test_what_is_reported_while_the_server_is_away_arrives_later_and_once(client, site, capsys):
    with client.external("patient", config={"lr": 1}, epochs=3) as report:
        report.log(loss=1.0)
        assert report.flush()
        site.web.kill()
        site.web.wait()
        began = time.monotonic()
        for step in range(2, 802):
            report.log(loss=1 / step)
            report.print(f"step {step}")
        assert time.monotonic() - began < 1  # nobody waits
        report.close_epoch(1, val_loss=float("nan"))
        time.sleep(0.1)
        site.start_web()
        assert report.complete(wait=60)
    job = client.job(report.number)
    assert (job.status, job.fields.current_step, job.fields.current_epoch) == ("completed", 801, 1)
    assert [row["step"] for row in job.metrics()] == list(range(1, 802))
    assert job.log() == "".join(f"step {step}\n" for step in range(2, 802))

    cancelled = client.external("unwanted")
    client.job(cancelled.number).cancel()
    cancelled.log(loss=1.0)
    assert not cancelled.complete()
    assert "is cancelled: nothing more is taken from it" in capsys.readouterr().err


@pytest.mark.processes
def test_a_folder_of_tensorboard_becomes_a_job_and_a_job_becomes_one(client, tmp_path):
    writing = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    from tensorboard.compat.proto import event_pb2, summary_pb2

    folder = tmp_path / "run 1"
    writer = writing.EventFileWriter(str(folder))
    began = time.time() - 3600
    for step in range(600):
        values = [
            summary_pb2.Summary.Value(tag="Loss/train", simple_value=1 / (step + 1)),
            summary_pb2.Summary.Value(tag="accuracy", tensor=_tensor(step / 600)),
        ]
        event = event_pb2.Event(wall_time=began + step, step=step, summary=summary_pb2.Summary(value=values))
        writer.add_event(event)
    writer.close()
    (path,) = event_files.files_of(folder)
    path.write_bytes(path.read_bytes()[:-5])  # still being written

    job = import_tensorboard(client, folder, rename={"Loss/train": "loss"}, tags=["old"])
    assert (job.name, job.status, job.fields.current_step) == ("run 1", "completed", 599)
    rows = job.metrics()
    assert (rows[0]["step"], rows[0]["loss"], rows[300]["accuracy"]) == (1, 1.0, pytest.approx(0.5))
    again = import_tensorboard(client, folder, job=job.id) if job.status == "running" else job
    assert len(again.metrics()) == 599

    written = exporting.to_tensorboard(job, tmp_path / "out")
    found = [event for path in event_files.files_of(written) for event in event_files.scalars(path)]
    assert {event.step for event in found} == set(range(1, 600))
    last = next(event for event in reversed(found) if "loss" in event.values)
    assert last.at == pytest.approx(began + 598, abs=2)
    with pytest.raises(InvalidInput, match="holds event files already"):
        exporting.to_tensorboard(job, tmp_path / "out")
    job.delete()


def _tensor(value: float):
    from tensorboard.compat.proto import tensor_pb2

    return tensor_pb2.TensorProto(dtype=1, float_val=[value])


@pytest.mark.processes
@pytest.mark.filterwarnings("default")
def test_a_job_becomes_a_run_of_mlflow_once(client, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a server needs more than a test has
    mlflow = pytest.importorskip("mlflow")
    with client.external("for mlflow", config={"lr": 0.1}) as report:
        report.log(step=1, loss=0.5)
        report.close_epoch(1, val_loss=0.25)
    job = client.job(report.number)
    uri = (tmp_path / "runs").as_uri()
    number = exporting.to_mlflow(job, uri)
    run = mlflow.MlflowClient(tracking_uri=uri).get_run(number)
    assert (run.data.metrics, run.data.params) == ({"loss": 0.5, "val_loss": 0.25}, {"lr": "0.1"})
    assert run.info.status == "FINISHED"
    with pytest.raises(InvalidInput, match="is the run"):
        exporting.to_mlflow(job, uri)
    job.delete()


def test_a_script_is_reported_under_the_name_that_asks_for_it(monkeypatch):
    monkeypatch.delenv("HEIMDALL_REPORT", raising=False)
    monkeypatch.setattr(sys, "argv", ["/home/anna/train.py"])
    assert [asked_for(word) for word in (None, False, True, "wave")] == ["", "", "train.py", "wave"]
    monkeypatch.setenv("HEIMDALL_REPORT", "from outside")
    assert [asked_for(word) for word in (None, False, "wave")] == ["from outside", "", "wave"]
    monkeypatch.setenv("RANK", "1")  # of several processes of one training the first reports
    assert asked_for("wave") == ""


def test_a_reporter_without_a_server_neither_raises_nor_waits(capsys):
    report = Reporter(Profile("http://127.0.0.1:9", "a" * 40), begin={"job_name": "alone"}, every=0.05)
    began, drawn = time.monotonic(), random.getstate()
    for step in range(100):
        report.log(step=step, loss=0.1)
    assert time.monotonic() - began < 0.5
    assert not report.complete(wait=0.2)
    assert time.monotonic() - began < 2
    assert "is lost" in capsys.readouterr().err
    assert random.getstate() == drawn  # the training's, also where a report is tried again


def taken(pending: PendingReports) -> dict:
    body = pending.take()
    assert body is not None
    pending.forget_taken()
    return body


def test_pending_reports_come_in_order_and_each_step_once_in_a_report():
    pending = PendingReports()
    pending.is_urgent = True
    for step in range(ROWS_AT_ONCE + 1):  # from 0: moved by one
        pending.add_values(step, 1, {"loss": 1.0})
    pending.add_values(ROWS_AT_ONCE, 1, {"accuracy": 0.5})  # the same step: one row
    pending.add_log("x" * (CHARACTERS_AT_ONCE + 1))
    first = pending.take()
    pending.keep()  # it did not arrive
    assert taken(pending)["rows"] == first["rows"]
    pending.add_epoch(1, None, {"val_loss": 0.25})
    rest = taken(pending)
    assert [row["step"] for row in rest["rows"]] == [ROWS_AT_ONCE + 1]
    assert rest["rows"][-1] | {"at": 0} == {
        "step": ROWS_AT_ONCE + 1, "epoch": 1, "at": 0, "values": {"loss": 1.0, "accuracy": 0.5},
        "epoch_values": {"val_loss": 0.25},
    }  # fmt: skip
    assert (len(rest["log"]), rest["log_begins_at"]) == (1, CHARACTERS_AT_ONCE)
    assert pending.is_empty
    assert "Steps only grow" in pending.add_values(3, 1, {})
    assert pending.add_values(3, 1, {}) is None  # said once


def test_a_row_that_is_on_its_way_is_not_changed():
    pending = PendingReports()
    pending.is_urgent = True
    pending.add_values(7, 1, {"loss": 1.0})
    on_its_way = pending.take()["rows"][0]
    pending.add_epoch(1, None, {"val_loss": 0.25})
    assert "epoch_values" not in on_its_way
    pending.forget_taken()
    (closing,) = taken(pending)["rows"]
    assert (closing["step"], closing["epoch_values"]) == (7, {"val_loss": 0.25})


def test_what_waits_for_a_server_is_bounded(monkeypatch):
    monkeypatch.setattr("heimdall.client.pending_reports.MOST_KEPT_ROWS", 10)
    monkeypatch.setattr("heimdall.client.pending_reports.MOST_KEPT_CHARACTERS", 10)
    pending = PendingReports()
    pending.is_urgent = True
    said = [pending.add_values(step, None, {}) for step in range(1, 31)]
    assert len([one for one in said if one]) == 1
    assert "oldest" in (pending.add_log("0123456789abc") or "")
    body = taken(pending)
    assert [row["step"] for row in body["rows"]] == list(range(21, 31))
    assert (body["log"], body["log_begins_at"]) == ("3456789abc", 3)


def record(raw: bytes) -> bytes:
    head = struct.pack("<Q", len(raw))
    return (
        head
        + struct.pack("<I", event_files._masked(head))
        + raw
        + struct.pack("<I", event_files._masked(raw))
    )


EVENT = (
    b"\x09"
    + struct.pack("<d", 5.0)
    + b"\x10\x03"
    + b"\x2a\x0b\x0a\x09\x0a\x02ab\x15"
    + struct.pack("<f", 0.5)
)


def test_the_checksum_is_the_published_one():
    """CRC-32C of "123456789" is e3069283 (RFC 3720), masked as TFRecord does."""
    crc = 0xE3069283
    assert event_files._masked(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def test_an_event_file_is_read_to_where_it_is_whole(tmp_path):
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(record(EVENT) + record(EVENT)[:-3])
    assert list(event_files.scalars(path)) == [event_files.ScalarEvent(3, 5.0, {"ab": 0.5})]


DAMAGES = {
    "a flipped bit of a record": lambda raw: raw[:20] + bytes([raw[20] ^ 1]) + raw[21:],
    "a flipped bit of a length": lambda raw: bytes([raw[0] ^ 1]) + raw[1:],
    "a length of exabytes": lambda raw: _framed(2**60),
    "a number without an end": lambda raw: record(b"\x10" + b"\xff" * 12),
    "a field longer than its message": lambda raw: record(b"\x2a\x7f\x0a"),
    "a pickle": lambda raw: b"\x80\x04\x95\x0b" + bytes(20),
    "a step below zero": lambda raw: record(b"\x10" + b"\xff" * 9 + b"\x01" + EVENT[11:]),
}


def _framed(length: int) -> bytes:
    head = struct.pack("<Q", length)
    return head + struct.pack("<I", event_files._masked(head))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_event_file_is_one_sentence(tmp_path, damage):
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(DAMAGES[damage](record(EVENT)))
    with pytest.raises(InvalidInput, match=r"tfevents\.1"):
        rows_of(tmp_path, {})


def test_a_folder_without_scalars_is_refused_by_name(tmp_path):
    with pytest.raises(InvalidInput, match="holds no event file"):
        rows_of(tmp_path, {})
    (tmp_path / "events.out.tfevents.1").write_bytes(record(b"\x1a\x0dbrain.Event:2"))
    with pytest.raises(InvalidInput, match="holds no scalars"):
        rows_of(tmp_path, {})
