"""Reports of receivers through each door: the API, the page and the command; each in a process of its own."""

import json

import pytest
from django.core.management import CommandError, call_command

from heimdall import codec
from heimdall.recipes import registry
from tests.pages.conftest import html
from tests.recipes.in_process import train
from tests.support.radio_reports import ITALY, lines, metres_off, table
from tests.support.staged import staged_as
from training import services
from training.models import Checkpoint, TrainingJob
from training.services import locating
from training.store import checkpoints

pytestmark = pytest.mark.django_db
TINY = {
    "epochs": 1, "batch_size": 64, "samples": 300, "width": 8, "heads": 2, "layers": 1, "refinements": 1,
    "dropout": 0.0, "validation_split": 0.3, "checkpoint_every_minutes": 0.0,
}  # fmt: skip
SENT = (44.9, 8.3, 205.0)
SEVEN = list(ITALY.values())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = train("localization", TINY, tmp_path_factory.mktemp("trained"))
    return run.parts, run.of("epoch")[-1]


@pytest.fixture
def job(alice, node, trained, tmp_path):
    """That has completed with a checkpoint."""
    parts, epoch = trained
    job = services.submit(by=alice, job_name="where", recipe="localization", config=TINY).job
    attempt = services.claim(node, slot=0, pid=1)
    rows = [{"step": epoch.step, "epoch": 1, "loss": 1.0}]
    services.beat(attempt, services.Report(steps=rows, epochs=[epoch]))
    about = {
        "recipe": registry.get("localization").package,
        "config": job.config,
        "step": epoch.step,
        "epoch": 1,
    }
    saved = codec.save(tmp_path / "staged", parts, about)
    staged = staged_as(saved, step=epoch.step, epoch=1, kinds=("best", "final"), val_loss=-1.5)
    services.complete(attempt, checkpoints.store(staged, job_id=job.pk, attempt=attempt.number))
    job.refresh_from_db()
    return job


def post(api, job, body):
    return api.post(f"/v1/training/jobs/{job.pk}/locate", body, format="json")


def answer_of(response):
    assert response.status_code == 200, response.content
    return json.loads(b"".join(response.streaming_content))


def test_the_api_answers_csv_and_objects_alike_and_leaves_nothing_behind(api, job, settings):
    raw = table(lines("one", SENT, SEVEN), lines("two", SENT, SEVEN[:2]))
    found = answer_of(post(api, job, {"csv": raw.decode()}))
    assert [one["status"] for one in found["results"]] == ["located", "too_few"]
    assert metres_off(found["results"][0]["classical"], SENT) < 1
    assert found["checkpoint"] == Checkpoint.objects.get(job=job).pk
    assert found["network"]["receivers"][2]["name"] == "Torino"
    assert found["error"] is None
    names = raw.decode().splitlines()[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in raw.decode().splitlines()[1:8]]
    assert answer_of(post(api, job, {"reports": rows}))["results"] == found["results"][:1]
    assert list(settings.SCRATCH_DIR.glob("*.safetensors")) == []


def test_what_is_refused_names_line_and_field_and_gives_its_place_back(
    api, job, alice, make_job, mallory, client_of
):
    for _ in range(locating.AT_ONCE + 1):
        refused = post(api, job, {"csv": "receiver,arrival_ns\nTorino;5\nGenova,x"})
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "invalid"
    assert refused.json()["error"]["fields"] == {"line 2": ["It has 1 fields and the header has 2."]}
    assert "one of the two" in post(api, job, {}).json()["error"]["message"]
    queued = make_job(recipe="localization", config=registry.validate("localization", {}))
    assert post(api, queued, {"csv": "x"}).status_code == 409
    other = make_job()
    assert "locates nothing" in post(api, other, {"csv": "x"}).json()["error"]["message"]
    assert post(client_of(mallory), job, {"csv": "x"}).status_code == 404


def test_no_more_processes_than_fit_and_each_ends_when_it_is_closed(api, job, alice):
    raw = table(lines("one", SENT, SEVEN))
    held = [services.locate(job, by=alice, reports=raw) for _ in range(locating.AT_ONCE)]
    busy = post(api, job, {"csv": raw.decode()})
    assert (busy.status_code, busy["Retry-After"]) == (503, "5")
    assert busy.json()["error"]["code"] == "locator_busy"
    held[0]._timer.function()  # its time is over, and its reader never read
    assert answer_of(post(api, job, {"csv": raw.decode()}))["error"] is None
    for process in held:
        process.close()
        assert process._process.returncode is not None
    assert answer_of(post(api, job, {"csv": raw.decode()}))["error"] is None


def test_a_process_that_dies_is_told_in_the_answer(api, job, alice):
    located = services.locate(job, by=alice, reports=table(lines("one", SENT, SEVEN)))
    located._process.kill()
    located._process.wait()
    with pytest.raises(InterruptedError, match="ended early"):
        assert list(located) is None
    located.close()


def test_the_process_sees_no_secret(monkeypatch):
    monkeypatch.setenv("HEIMDALL_SECRET_KEY", "not for others")
    monkeypatch.setenv("DATABASE_URL", "postgres://name:password@host/db")
    assert {"HEIMDALL_SECRET_KEY", "DATABASE_URL"} & set(locating._environment()) == set()


def test_the_page_shows_answers_and_gives_files(browse, alice, job):
    browser = browse(alice)
    assert f'href="/jobs/{job.pk}/locate/"' in html(browser.get(f"/jobs/{job.pk}/"))
    address = f"/jobs/{job.pk}/locate/"
    assert 'value="Torino"' in html(browser.get(address))
    raw = table(lines("one <b>", SENT, SEVEN)).decode()
    shown = html(browser.post(address, {"text": raw}))
    assert "one &lt;b&gt;" in shown
    assert "44.900" in shown
    assert 'id="map"' in shown
    geojson = browser.post(address, {"text": raw, "wanted": "geojson"})
    assert json.loads(geojson.content)["features"][0]["geometry"]["type"] == "Point"
    assert geojson["Content-Disposition"] == f'attachment; filename="job-{job.pk}-located.geojson"'
    assert b"<kml" in browser.post(address, {"text": raw, "wanted": "kml"}).content
    refused = browser.post(address, {"text": raw.replace("25,-95", "25,strong", 1)})
    assert "line 2, rss_dbm: &#x27;strong&#x27; is not a number." in html(refused)
    assert "Choose a file" in html(browser.post(address, {}))


def test_typed_arrivals_are_located_like_a_file(browse, alice, job):
    typed = {}
    for number, line in enumerate(lines("x", SENT, SEVEN)):
        _, name, latitude, longitude, altitude, arrival, *_ = line.split(",")
        values = {"receiver": name, "latitude": latitude, "longitude": longitude, "altitude_m": altitude}
        typed |= {f"row{number}.{key}": value for key, value in values.items()}
        typed[f"row{number}.arrival_ns"] = arrival
    shown = html(browse(alice).post(f"/jobs/{job.pk}/locate/", typed))
    assert "44.90000" in shown
    assert "needs SNR and RSS" in shown


def test_a_training_for_other_receivers_is_filled_in_from_their_reports(browse, alice, job):
    raw = table(lines("x", SENT, SEVEN, error_ns=65.0)).decode().replace("Torino,45.044", "My tower,45.05")
    rows = raw.replace("frequency_offset_hz", "frequency_offset_hz,bandwidth_khz", 1).splitlines()
    raw = "\n".join([rows[0], *(f"{row},25" for row in rows[1:])])
    browser = browse(alice)
    sent = browser.post(f"/jobs/{job.pk}/locate/", {"text": raw, "wanted": "training"})
    assert sent.status_code == 302
    form = browser.get(sent["Location"]).context["form"]
    given = {name: field.initial for name, field in form.fields.items()} | form.initial
    assert given["job_name"] == "my receivers"
    assert [one["name"] for one in given["config.receivers"]].count("My tower") == 1
    assert float(given["config.bandwidth_khz"]) == 25
    assert 60 < float(given["config.sync_jitter_ns"]) < 65
    entered = {name: json.dumps(value) if isinstance(value, list) else value for name, value in given.items()}
    entered = {name: value for name, value in entered.items() if value is not None and value is not False}
    queued = browser.post(sent["Location"], entered)
    assert queued.status_code == 302, str(queued.context["form"].errors)
    made = TrainingJob.objects.latest("pk")
    assert made.config["receivers"][2]["latitude"] == 45.05


def test_the_command_locates_with_a_job_and_with_a_file(alice, job, tmp_path, capsys):
    file = tmp_path / "evening.csv"
    file.write_bytes(table(lines("one", SENT, SEVEN)))
    call_command("localization", "locate", str(job.pk), str(file), "--as", "alice")
    said = capsys.readouterr().out
    assert said.startswith("one: 44.9")
    assert "95 % within" in said
    local = checkpoints.fetch(Checkpoint.objects.get(job=job), tmp_path)
    call_command("localization", "locate", str(local), str(file), "--output", "geojson", "--as", "alice")
    assert json.loads(capsys.readouterr().out)["type"] == "FeatureCollection"
    call_command("localization", "locate", str(local), str(file), "--json", "--as", "alice")
    assert json.loads(capsys.readouterr().out)["transmission"] == "one"
    call_command("localization", "locate", str(local), str(file), "--config", "--as", "alice")
    assert json.loads(capsys.readouterr().out)["sync_jitter_ns"] > 90
    file.write_text("receiver,arrival_ns\nTorino,later")
    with pytest.raises(CommandError, match="line 2, arrival_ns: 'later' is not a number"):
        call_command("localization", "locate", str(local), str(file), "--as", "alice")
    with pytest.raises(CommandError, match="There is no job 99"):
        call_command("localization", "locate", "99", str(file), "--as", "alice")
