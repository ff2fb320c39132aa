"""Reports of receivers through each door: the API, the page and the command; each in a process of its own."""

import json
import xml.etree.ElementTree as xml

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client

from heimdall.recipes import registry
from heimdall.site import env
from tests.pages.conftest import html
from tests.support.localizations import completed_localization, trained_parts
from tests.support.radio_reports import HEADER, ITALY, lines, metres_off, table
from tests.support.tokens import token_of
from training import placement, services
from training.api.uploads import most_upload_bytes
from training.models import Checkpoint, TrainingJob
from training.services import MOST_REPORT_BYTES, locating
from training.store import checkpoints

pytestmark = pytest.mark.django_db
SENT = (44.9, 8.3, 205.0)
SEVEN = list(ITALY.values())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return trained_parts(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def job(alice, node, trained, tmp_path):
    """That has completed with a checkpoint."""
    return completed_localization(alice, node, trained, tmp_path)


def post(api, job, body):
    return api.post(f"/v1/training/jobs/{job.pk}/locate", body, format="json")


def answer_of(response):
    assert response.status_code == 200, response.content
    return json.loads(b"".join(response.streaming_content))


def post_csv(api, job, raw: bytes, output: str = ""):
    query = f"?output={output}" if output else ""
    return api.post(f"/v1/training/jobs/{job.pk}/locate{query}", raw, content_type="text/csv")


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


def test_csv_is_sent_as_it_is_and_comes_back_for_maps(api, job):
    raw = table(lines("one", SENT, SEVEN))
    assert answer_of(post_csv(api, job, raw))["results"][0]["status"] == "located"
    kml = post_csv(api, job, raw, "kml")
    assert kml["Content-Type"] == "application/vnd.google-earth.kml+xml"
    assert xml.fromstring(b"".join(kml.streaming_content)).tag.endswith("kml")
    geojson = post_csv(api, job, raw, "geojson")
    assert json.loads(b"".join(geojson.streaming_content))["features"][0]["geometry"]["type"] == "Point"
    assert "is not one of: json, geojson, kml" in post_csv(api, job, raw, "xml").json()["error"]["message"]
    assert post_csv(api, job, b"x" * (MOST_REPORT_BYTES + 1)).status_code == 413
    as_text = api.post(f"/v1/training/jobs/{job.pk}/locate", raw, content_type="text/plain")
    assert as_text.status_code == 415


def test_a_batch_of_more_than_a_megabyte_is_answered_while_it_is_located(api, job):
    four = [line.removeprefix("x,") for line in lines("x", SENT, SEVEN[2:6])]
    raw = table([f"t{number},{line}" for number in range(300) for line in four])
    raw = raw.replace(b"\n", b"\n" + b" " * 900 + b"\n")
    assert len(raw) > 1_050_000
    response = post_csv(api, job, raw)
    pieces = iter(response.streaming_content)
    first = next(pieces) + next(pieces)
    assert b'"transmission": "t0"' in first
    owners = [getattr(one, "__self__", None) for one in response._resource_closers]
    (located,) = [one for one in owners if isinstance(one, locating.LocatorProcess)]
    assert located._process.poll() is None  # the other answers do not fit into its pipe
    found = json.loads(first + b"".join(pieces))
    assert [one["transmission"] for one in found["results"]] == [f"t{number}" for number in range(300)]
    assert found["error"] is None


def test_only_who_is_logged_in_may_send_more_than_a_mebibyte_of_reports(alice, settings):
    path = "/v1/training/jobs/3/locate"
    token = [(b"authorization", f"Bearer {token_of(alice)}".encode())]
    assert most_upload_bytes({"method": "POST", "path": path, "headers": token}) > MOST_REPORT_BYTES
    assert most_upload_bytes({"method": "POST", "path": path, "headers": []}) == 0
    assert most_upload_bytes({"method": "POST", "path": f"{path}/x", "headers": token}) == 0
    client = Client()
    client.force_login(alice)
    cookie = f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"
    form = {"method": "POST", "path": "/jobs/3/locate/", "headers": [(b"cookie", cookie.encode())]}
    assert most_upload_bytes(form) > MOST_REPORT_BYTES
    assert most_upload_bytes(form | {"headers": []}) == 0


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
    assert json.loads(b"".join(geojson.streaming_content))["features"][0]["geometry"]["type"] == "Point"
    assert geojson["Content-Disposition"] == f'attachment; filename="job-{job.pk}-located.geojson"'
    kml = browser.post(address, {"text": raw, "wanted": "kml"})
    assert b"<kml" in b"".join(kml.streaming_content)
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


def test_a_refused_file_stands_in_the_text_to_be_mended(browse, alice, job):
    """And not what was located before it."""
    browser = browse(alice)
    wrong = SimpleUploadedFile("evening.csv", b"receiver,arrival_ns\nTorino,later")
    refused = browser.post(f"/jobs/{job.pk}/locate/", {"file": wrong, "text": "of before"})
    assert refused.status_code == 400
    assert "line 2, arrival_ns: &#x27;later&#x27; is not a number." in html(refused)
    assert "Torino,later</textarea>" in html(refused)
    assert "of before" not in html(refused)


def test_the_beacon_is_told_once_and_not_under_every_row(browse, alice, job):
    late = {"Genova": 5_000.0}
    beacon = [line + ",45.1,8.0,300" for line in lines("beacon", (45.1, 8.0, 300.0), SEVEN, late_ns=late)]
    rows = [[line + ",,," for line in lines(name, SENT, SEVEN, late_ns=late)] for name in ("one", "two")]
    header = f"{HEADER},known_latitude,known_longitude,known_altitude_m"
    shown = browse(alice).post(
        f"/jobs/{job.pk}/locate/", {"text": table(beacon, *rows, header=header).decode()}
    )
    assert html(shown).count("corrected by the beacons") == 1


def test_tiles_are_asked_of_the_operators_address_and_of_no_other(browse, alice, job, settings):
    browser, address = browse(alice), f"/jobs/{job.pk}/locate/"
    raw = {"text": table(lines("one", SENT, SEVEN)).decode()}
    assert "img-src 'self';" in browser.get(address)["Content-Security-Policy"] + ";"
    assert 'data-tiles=""' in html(browser.post(address, raw))
    settings.MAP_TILES = "https://tiles.example.org:8443/{z}/{x}/{y}.png?key=a"
    settings.MAP_TILES_BY = "© <b>Example</b>"
    allowed = browser.post(address, raw)
    assert "img-src 'self' data: https://tiles.example.org:8443" in allowed["Content-Security-Policy"]
    assert 'data-tiles="https://tiles.example.org:8443/{z}/{x}/{y}.png?key=a"' in html(allowed)
    assert "© &lt;b&gt;Example&lt;/b&gt;" in html(allowed)
    assert "tiles.example.org" not in browser.get(f"/jobs/{job.pk}/")["Content-Security-Policy"]


@pytest.mark.parametrize(
    "address",
    ["tiles.example.org/{z}/{x}/{y}", "https://a.org/{z}/{x}", "https://a.org/{z}/{x}/{y}; script-src *"],
)
def test_an_address_of_tiles_that_is_none_stops_the_start(address, monkeypatch):
    monkeypatch.setenv("HEIMDALL_MAP_TILES", address)
    with pytest.raises(ImproperlyConfigured, match="HEIMDALL_MAP_TILES="):
        env.map_tiles("HEIMDALL_MAP_TILES")


def test_a_dataset_and_a_training_for_other_receivers_are_queued_from_their_reports(browse, alice, job):
    raw = table(lines("x", SENT, SEVEN, error_ns=65.0)).decode().replace("Torino,45.044", "My tower,45.05")
    rows = raw.replace("frequency_offset_hz", "frequency_offset_hz,bandwidth_khz", 1).splitlines()
    raw = "\n".join([rows[0], *(f"{row},25" for row in rows[1:])])
    browser = browse(alice)
    offered = browser.post(f"/jobs/{job.pk}/locate/", {"text": raw, "wanted": "training"})
    assert "My tower" in html(offered)
    form = offered.context["form"]
    given = {name: form[name].value() for name in ("name", "samples", "epochs")}
    queued = browser.post(f"/jobs/{job.pk}/locate/train/", given | {"scene": form["scene"].value()})
    assert queued.status_code == 302, html(queued)
    training = TrainingJob.objects.latest("pk")
    made = TrainingJob.objects.get(pk=training.pk - 1)
    assert queued["Location"] == f"/jobs/{training.pk}/"
    assert (made.recipe, training.recipe) == ("rf_dataset", "localization")
    assert made.config["receivers"][2] == {
        "name": "My tower", "latitude": 45.05, "longitude": 7.672, "altitude_m": 250.0
    }  # fmt: skip
    assert made.config["bandwidth_khz"] == 25
    assert 60 < made.config["sync_jitter_ns"] < 65
    assert training.dataset_id == made.dataset_id is not None
    assert training.config["dataset"] == made.dataset.name
    assert placement.waiting_reasons([training])[training.pk].code == "dataset"
    every = browser.get(offered.context["every_setting"]).context["form"].initial
    assert float(every["config.bandwidth_khz"]) == 25


def test_what_cannot_be_trained_is_refused_and_nothing_is_queued(browse, alice, job):
    before = TrainingJob.objects.count()
    address = f"/jobs/{job.pk}/locate/train/"
    wrong = {"name": "x", "samples": 1000, "epochs": 2, "scene": json.dumps({"bandwidth_khz": -3})}
    refused = browse(alice).post(address, wrong)
    assert refused.status_code == 400
    assert "bandwidth_khz" in html(refused)
    assert browse(alice).post(address, wrong | {"scene": "no JSON"}).status_code == 400
    assert browse(alice).post(address, wrong | {"scene": "{}", "epochs": 0}).status_code == 400
    assert TrainingJob.objects.count() == before


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
