"""Reports made by hand, of which the answer is known: where light would really arrive on the real earth."""

import csv
import json
import xml.etree.ElementTree as xml
from pathlib import Path

import numpy as np
import pytest
import torch

from heimdall import codec
from heimdall.recipes import registry
from heimdall.recipes.localization import evaluate
from heimdall.recipes.localization.locating import geographic, reports
from heimdall.recipes.localization.locating.classical import chi_squared_tail
from heimdall.recipes.localization.locating.locator import Locator
from heimdall.recipes.localization.settings import Receiver
from tests.recipes.in_process import train
from tests.support.radio_reports import HEADER, ITALY, lines, metres_off, table

torch.set_num_threads(1)

LEARNED = {
    "samples": 3000, "epochs": 3, "batch_size": 128, "learning_rate": 0.004, "width": 16, "heads": 2, "layers": 1,
    "dropout": 0.0, "refinements": 1, "checkpoint_every_minutes": 0.0, "device": "cpu",
}  # fmt: skip
SENT = (44.9, 8.3, 205.0)
SEVEN = list(ITALY.values())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run = train("localization", LEARNED, folder)
    about = {
        "recipe": evaluate.PACKAGE,
        "config": registry.validate("localization", LEARNED),
        "epoch": 3,
        "step": 1,
    }
    codec.save(folder / "trained.safetensors", run.parts, about)
    return evaluate.open_checkpoint(folder / "trained.safetensors")


@pytest.fixture
def locate(trained):
    def located(*rows: list[str], header: str = HEADER) -> list[dict]:
        return list(Locator(trained).locate(reports.read(table(*rows, header=header), trained.settings)))

    return located


def notes(answer: dict) -> str:
    return " ".join(answer["notes"])


def test_seven_receivers_locate_to_metres_on_the_curved_earth(locate):
    for sent in (SENT, (44.2, 7.0, 205.0), (45.4, 9.0, 205.0)):
        (answer,) = locate(lines("x", sent, SEVEN))
        assert answer["status"] == "located"
        assert answer["by"] == "network"
        assert metres_off(answer["classical"], sent) < 1.0
        assert metres_off(answer, sent) < 15.0  # it weighs arrivals by what it learned of noise
        assert [one["used"] for one in answer["receivers"]] == [True] * 7
        assert max(abs(one["residual_ns"]) for one in answer["receivers"]) < 60


def test_the_classical_ellipse_is_that_of_the_inverse_information(locate):
    """Receivers due north, east, south and west: a circle of sigma / sqrt(2), 21.2 m for 100 ns."""
    middle = (45.0, 8.0)
    cross = [
        Receiver(name=name, latitude=middle[0] + north, longitude=middle[1] + east, altitude_m=205.0)
        for name, north, east in (
            ("N", 0.3, 0),
            ("S", -0.3, 0),
            ("E", 0, 0.3 / np.cos(np.pi / 4)),
            ("W", 0, -0.424264),
        )
    ]
    (answer,) = locate(lines("x", (*middle, 205.0), cross))
    small, large = answer["classical"]["ellipses"]
    sigma = 29.979 / np.sqrt(2)
    for one, share in ((small, 0.68), (large, 0.95)):
        wanted = sigma * np.sqrt(-2 * np.log(1 - share))
        assert one["semi_major_m"] == pytest.approx(wanted, rel=0.01)
        assert one["semi_minor_m"] == pytest.approx(wanted, rel=0.01)
    assert answer["dilution"] == {
        "horizontal": pytest.approx(1.0, abs=0.01),
        "total": pytest.approx(1.118, abs=0.01),
    }


def test_a_bearing_is_that_of_the_long_axis(locate):
    """All receivers stand in the south-west, so what is not known is the distance north-east of them."""
    (answer,) = locate(
        lines("x", (45.5, 9.0, 205.0), [ITALY[name] for name in ("Torino", "Coazze", "Montanaro", "Genova")])
    )
    large = answer["classical"]["ellipses"][1]
    assert large["semi_major_m"] > 2 * large["semi_minor_m"]
    ring = np.array(large["ring"])
    away = (ring - ring[:-1].mean(axis=0)) * [np.cos(np.radians(45.5)), 1.0]
    farthest = away[np.argmax(np.linalg.norm(away, axis=1))]
    bearing = np.degrees(np.arctan2(*farthest)) % 180
    assert bearing == pytest.approx(large["bearing_deg"], abs=3)


def test_what_lies_east_of_all_receivers_is_uncertain_from_west_to_east(locate):
    (answer,) = locate(lines("x", (44.95, 10.0, 205.0), SEVEN))
    for kind in ("classical", "network"):
        assert answer[kind]["ellipses"][0]["bearing_deg"] == pytest.approx(90, abs=15)


def test_three_receivers_may_leave_two_places_and_both_are_shown(locate):
    three = [ITALY[name] for name in ("Torino", "Genova", "Milano-Baggio")]
    outside = (45.05, 7.2, 205.0)
    (answer,) = locate(lines("x", outside, three))
    assert answer["status"] == "ambiguous"
    places = [answer["position"], *answer["others"]]
    assert len(places) == 2
    assert min(metres_off({"position": place}, outside) for place in places) < 60
    assert "would decide" in notes(answer)
    (sure,) = locate(lines("x", outside, [*three, ITALY["Passo del Giovi"]]))
    assert sure["others"] == []
    assert metres_off(sure["classical"], outside) < 1


def test_receivers_in_line_see_a_station_and_its_mirror_image(locate):
    line = [
        Receiver(name=f"L{number}", latitude=45.0, longitude=7.5 + 0.3 * number, altitude_m=205.0)
        for number in range(4)
    ]
    (answer,) = locate(lines("x", (45.2, 8.1, 205.0), line))
    assert answer["status"] == "ambiguous"
    latitudes = sorted(place["latitude"] for place in [answer["position"], *answer["others"]])
    assert latitudes == pytest.approx([44.8, 45.2], abs=0.01)


def test_one_wrong_clock_among_seven_is_found_and_left_out(locate):
    for late, words in ((30_000.0, "30 us late"), (-4_000.0, "4 us early"), (1e9, "1 s late")):
        (answer,) = locate(lines("x", SENT, SEVEN, late_ns={"Genova": late}))
        assert answer["status"] == "contradictory"
        assert [one["receiver"] for one in answer["receivers"] if not one["used"]] == ["Genova"]
        assert words in notes(answer)
        assert metres_off(answer, SENT) < 20.0


def test_contradictions_that_cannot_be_laid_to_one_receiver_give_no_position(locate):
    four = [ITALY[name] for name in ("Torino", "Genova", "Milano-Baggio", "Montanaro")]
    for late in ({"Genova": 30_000.0}, {"Genova": 1e9, "Torino": -1e9}):
        (answer,) = locate(lines("x", SENT, four, late_ns=late))
        assert answer["status"] == "contradictory"
        assert answer["position"] is None
        assert answer["classical"] is answer["network"] is answer["by"] is None
        assert "cannot be told which" in notes(answer)
    (answer,) = locate(lines("x", SENT, SEVEN, late_ns={"Genova": 30_000.0, "Torino": -50_000.0}))
    assert answer["position"] is None


def test_a_second_that_all_clocks_share_changes_nothing(locate):
    (one,) = locate(lines("x", SENT, SEVEN))
    (other,) = locate(lines("x", SENT, SEVEN, since_ns=1e9))
    assert metres_off(one["classical"], SENT) < 1
    assert one["position"] == other["position"]


def test_two_arrivals_are_too_few_and_a_far_station_is_no_position(locate):
    (few,) = locate(lines("x", SENT, SEVEN[:2]))
    assert few["status"] == "too_few"
    assert few["position"] is None
    (far,) = locate(lines("x", (40.0, 20.0, 205.0), SEVEN))
    assert far["status"] == "no_position"
    assert far["position"] is None
    assert "direction" in notes(far)


def test_receivers_that_were_not_trained_with_are_named_and_few_of_them_are_not_believed(locate):
    stranger = Receiver(name="Vercelli", latitude=45.32, longitude=8.42, altitude_m=130.0)
    (answer,) = locate(lines("x", SENT, [*SEVEN[1:], stranger]))
    assert answer["by"] == "network"
    assert "not trained with Vercelli: up to 45.2 km" in notes(answer)
    assert metres_off(answer["classical"], SENT) < 1
    (answer,) = locate(lines("x", SENT, [*SEVEN[2:], stranger]))
    assert answer["by"] == "classical"
    assert "Measured with 5 others within 170 km: half of its answers are within 65 m" in notes(answer)
    assert notes(answer).endswith("So the classical answer comes first.")
    (answer,) = locate(lines("x", SENT, SEVEN[2:]))
    assert answer["by"] == "network"
    assert notes(answer) == ""


def test_a_network_on_the_other_half_of_the_earth_is_located_in_its_own_plane(locate):
    far = [
        Receiver(
            name=f"{name} II",
            latitude=one.latitude - 75,
            longitude=one.longitude + 110,
            altitude_m=one.altitude_m,
        )
        for name, one in ITALY.items()
    ]
    (answer,) = locate(lines("x", (-30.1, 118.3, 205.0), far))
    assert "not trained with" in notes(answer)
    assert metres_off(answer["classical"], (-30.1, 118.3)) < 1


def test_without_strengths_the_classical_answer_comes_first(locate, trained):
    raw = "\n".join(
        ",".join(line.split(",")[:7]) for line in table(lines("x", SENT, SEVEN)).decode().splitlines()
    )
    (answer,) = Locator(trained).locate(reports.read(raw.encode(), trained.settings))
    assert answer["by"] == "classical"
    assert "needs SNR and RSS" in notes(answer)


def test_a_beacon_corrects_clocks_that_are_microseconds_off(locate):
    late = {"Genova": 5_000.0, "Torino": -3_000.0, "Coazze": 700.0}
    (alone,) = locate(lines("x", SENT, SEVEN, late_ns=late))
    assert alone["position"] is None
    beacon = [line + ",45.1,8.0,300" for line in lines("beacon", (45.1, 8.0, 300.0), SEVEN, late_ns=late)]
    rows = [line + ",,," for line in lines("x", SENT, SEVEN, late_ns=late)]
    found = locate(beacon, rows, header=f"{HEADER},known_latitude,known_longitude,known_altitude_m")
    assert found[0]["known_error_m"] < 60
    assert found[1]["status"] == "located"
    assert metres_off(found[1]["classical"], SENT) < 5
    assert found[1]["receivers"][0]["error_ns"] == pytest.approx(141.4, abs=0.1)
    assert found[1]["synced"]
    assert "beacon" not in notes(found[1])


def test_a_late_arrival_is_named(locate):
    (answer,) = locate(lines("x", SENT, SEVEN, late_ns={"Genova": 450.0}))
    probable = max(answer["receivers"], key=lambda one: one["late_probability"])
    assert probable["receiver"] == "Genova"
    assert probable["late_probability"] > 0.6


def test_answers_come_in_the_order_of_the_file_whoever_heard_them(locate):
    rows = [lines(f"t{number}", SENT, SEVEN[number % 3 :]) for number in range(6)]
    assert [one["transmission"] for one in locate(*rows)] == [f"t{number}" for number in range(6)]


def test_geojson_and_kml_hold_position_ellipses_and_receivers(locate):
    answers = locate(lines("a & b", SENT, SEVEN), lines("few", SENT, SEVEN[:2]))
    found = json.loads("".join(geographic.geojson(answers)))
    kinds = [feature["properties"]["what"] for feature in found["features"]]
    assert kinds[:3] == ["position", "ellipse", "ellipse"]
    assert kinds.count("receiver") == 9
    ring = found["features"][1]["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]
    longitude, latitude = found["features"][0]["geometry"]["coordinates"]
    assert (latitude, longitude) == pytest.approx(SENT[:2], abs=0.001)
    document = xml.fromstring("".join(geographic.kml(answers)))
    names = [node.text for node in document.iter("{http://www.opengis.net/kml/2.2}name")]
    assert names.count("a & b") == 2  # the folder and the position
    assert "Torino" in names


@pytest.mark.parametrize(("value", "freedom"), [(3.841, 1), (5.991, 2), (7.815, 3), (9.488, 4), (18.307, 10)])
def test_the_tail_of_chi_squared_has_its_tabled_values(value, freedom):
    assert chi_squared_tail(value, freedom) == pytest.approx(0.05, abs=2e-4)


def test_the_shipped_evening_is_located(trained):
    """Some of its arrivals are late."""
    folder = Path("examples/localization")
    with (folder / "where_they_were.csv").open() as file:
        truth = {
            row["transmission"]: (float(row["latitude"]), float(row["longitude"]))
            for row in csv.DictReader(file)
        }
    sent = reports.read((folder / "evening.csv").read_bytes(), trained.settings)
    found = {answer["transmission"]: answer for answer in Locator(trained).locate(sent)}
    assert found["beacon"]["known_error_m"] < 200
    assert set(found) == {*truth, "beacon"}
    placed = {name: one for name, one in found.items() if one["position"] and name in truth}
    assert len(placed) >= 8
    assert np.median([metres_off(one, truth[name]) for name, one in placed.items()]) < 150
