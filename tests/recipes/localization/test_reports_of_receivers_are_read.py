"""Files of reports: what is taken, and what is refused with the line, the field and what to write instead."""

import json
import time

import pytest

from heimdall.recipes.localization.locating import reports
from heimdall.recipes.localization.locating.tables import BadReports
from heimdall.recipes.localization.settings import RadioSettings
from tests.support.radio_reports import HEADER, ITALY, lines, table

SENT = (45.0, 8.0, 205.0)
SETTINGS = RadioSettings()


def read(raw: bytes):
    return reports.read(raw, SETTINGS)


def refused(raw: bytes) -> str:
    with pytest.raises(BadReports) as caught:
        read(raw)
    return str(caught.value)


def test_receivers_of_the_training_need_no_place_and_columns_any_order_and_names():
    raw = b"Time_UTC;Name;SNR\n" + b"\n".join(
        f"2026-11-29T20:15:00.{ns:09d}Z;{name.upper()};20".encode()
        for ns, name in zip((123456789, 123456999, 123457001), ITALY, strict=False)
    )
    (sent,) = read(raw)
    assert [report.receiver for report in sent.reports] == list(ITALY.values())[:3]
    assert [report.arrival_ns for report in sent.reports] == [0.0, 210.0, 212.0]
    assert sent.reports[0].snr_db == 20.0


def test_nanoseconds_of_twenty_digits_lose_none():
    raw = b"receiver,arrival_ns\nTorino,1764447300123456789.25\nGenova,1764447300123456790.75"
    assert read(raw)[0].reports[1].arrival_ns == 1.5


def test_csv_with_a_byte_order_mark_and_json_say_the_same():
    raw = table(lines("one", SENT, ITALY.values()), lines("two", SENT, list(ITALY.values())[:3]))
    names = raw.decode().splitlines()[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in raw.decode().splitlines()[1:]]
    as_json = json.dumps({"reports": [{key: value for key, value in row.items() if value} for row in rows]})
    wanted = [[report.arrival_ns for report in sent.reports] for sent in read(raw)]
    assert [len(row) for row in wanted] == [7, 3]
    for other in (b"\xef\xbb\xbf" + raw, as_json.encode(), raw.replace(b"\n", b"\r\n")):
        assert [[report.arrival_ns for report in sent.reports] for sent in read(other)] == wanted


def test_a_receiver_that_heard_nothing_needs_no_arrival():
    raw = b"receiver,arrival_ns,detected\nTorino,1,true\nGenova,,no\nCoazze,,\n"
    assert [report.detected for report in read(raw)[0].reports] == [True, False, False]


LINE = "x,Turin,45.0,7.6,250,5,100,20,-90,0"


@pytest.mark.parametrize(
    ("raw", "place", "says"),
    [
        (b"", "reports", "nothing in it"),
        (b"receiver,arrival_ns\n", "reports", "no report"),
        (b"receiver,arival_ns\nTorino,5", "line 1, arival_ns", "Did you mean arrival_ns?"),
        (b"receiver,receiver\nTorino,5", "line 1, receiver", "twice in the header"),
        (b"receiver;arrival_ns\nTorino;5,5", "line 2, arrival_ns", "has a comma"),
        (b"receiver,arrival_ns\nTorino,5,5", "line 2", "a decimal sign"),
        (b"receiver,arrival_ns\n\nTorino,five", "line 3, arrival_ns", "'five' is not a number"),
        (b"receiver,arrival_ns\nTorino,nan", "line 2, arrival_ns", "is not a number"),
        (b"receiver,arrival_ns,detected\nTorino,,yes", "line 2, arrival_ns", "missing"),
        (b"receiver,arrival_ns,detected\nTorino,5,perhaps", "line 2, detected", "neither true nor false"),
        (b"receiver,arrival_ns\nRoma,5", "line 2, latitude", "none of the receivers of the training"),
        (b"arrival_ns\n5", "line 2, receiver", "missing"),
        (b"receiver,time_utc\nTorino,20:15", "line 2, time_utc", "not a time in UTC"),
        (b"receiver,time_utc\nTorino,2026-13-29T20:15:00Z", "line 2, time_utc", "not a time in UTC"),
        (b"receiver,time_utc\nTorino,2026-11-29T20:15:00+02:00", "line 2, time_utc", "not a time in UTC"),
        (
            b"receiver,arrival_ns,time_utc\nTorino,5,2026-11-29T20:15:00Z",
            "line 2, time_utc",
            "one of the two",
        ),
        (b"receiver,arrival_ns\nTorino,5\ntorino,6", "line 3, receiver", "reports twice"),
        (b"receiver,latitude,longitude,arrival_ns\nTurin,95,7.6,5", "line 2, latitude", "exchanged?"),
        (b"receiver,latitude,arrival_ns\nTurin,45,5", "line 2, longitude", "missing"),
        (b"receiver,arrival_ns,error_ns\nTorino,5,-3", "line 2, error_ns", "is not between"),
        (b"receiver,arrival_ns,known_latitude\nTorino,5,45", "line 2, known_longitude", "missing"),
        (b"receiver,arrival_ns,known_altitude_m\nTorino,5,45", "line 2, known_latitude", "a latitude"),
        ("receiver,arrival_ns\nTorino,5".encode("utf-16"), "reports", "UTF-16"),
        (b"receiver,arrival_ns\nTorin\xf2,5", "line 2", "UTF-8"),
        (b"receiver,arrival_ns\nTor\x00no,5", "line 2", "NUL"),
        (b'receiver,arrival_ns\n"Torino,5', "line 2", "no line of CSV"),
        (b'[{"receiver": "Torino", "arrival": 5}]', "report 1, arrival", "arrival_ns"),
        (b'[{"receiver": "Torino", "arrival_ns": true}]', "report 1, arrival_ns", "is not a number"),
        (b'[{"receiver": "Torino", "arrival_ns": NaN}]', "reports", "NaN"),
        (b'{"rows": []}', "reports", "list of reports"),
        (b"[5]", "report 1", "an object"),
        (b"[" * 100_000, "reports", "too deep"),
        (b'[{"receiver": \n "Torino"', "line 2", "not JSON"),
    ],
)
def test_a_bad_file_is_refused_with_line_and_field(raw, place, says):
    sentence = refused(raw)
    assert sentence.startswith(f"{place}: ")
    assert says in sentence


def test_exchanged_coordinates_are_noticed_of_one_receiver_and_of_all():
    rows = lines("x", SENT, list(ITALY.values())[:4])
    known = table([*rows[:2], rows[2].replace("45.044,7.672", "7.672,45.044"), rows[3]])
    assert refused(known).startswith("line 4, latitude: Torino stands at latitude 45.044")
    one = known.replace(b"Torino", b"Turin")
    assert refused(one).startswith("line 4, latitude: Turin stands")
    assert "exchanged" in refused(one)
    everyone = HEADER.replace("latitude,longitude", "longitude,latitude")
    strangers = [row.replace("x,", "x,My ", 1) for row in rows]
    assert "Exchange the columns" in refused(table(strangers, header=everyone))
    assert len(read(table(strangers))) == 1


def test_a_receiver_stands_in_one_place_and_a_network_is_no_continent():
    rows = lines("x", SENT, list(ITALY.values())[:3])
    moved = [row.replace("x,", "y,", 1).replace("45.234", "45.3") for row in rows]
    assert "line 6, latitude: Montanaro stood elsewhere in line 3" in refused(table(rows, moved))
    wrong = [rows[0], rows[1].replace("7.857", "17.857").replace("Montanaro", "Here"), rows[2]]
    assert "Is a degree wrong?" in refused(table(wrong))


def test_sixteen_receivers_and_more_than_100_000_lines_are_too_many():
    many = [f"x,R{number},45.{number:02d},7.5,100,5,100,20,-90,0" for number in range(16)]
    assert "more than 15 receivers" in refused(table(many))
    enough = [
        f"t{number // 5},{name},{number}"
        for number, name in zip(range(100_000), list(ITALY)[:5] * 20_000, strict=True)
    ]
    raw = "\n".join(["transmission,receiver,arrival_ns", *enough]).encode()
    began = time.process_time()
    assert len(read(raw)) == 20_000
    assert time.process_time() - began < 20
    assert "line 100002: There are more than 100000 reports" in refused(raw + b"\nmore,Torino,5")
