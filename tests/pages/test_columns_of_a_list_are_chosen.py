"""The list shows settings and metrics as columns that somebody chose, and keeps them in its address."""

from __future__ import annotations

import pytest

from tests.pages.conftest import html, words
from training import services
from training.queries.filters import MOST_COLUMNS, Filters

pytestmark = pytest.mark.django_db
COLUMNS = "config.learning_rate,config.samples"


@pytest.fixture
def two(alice):
    rates = (0.25, 0.125)
    for rate in rates:
        services.submit(
            by=alice, job_name=f"rate {rate}", recipe="tiny", config={"learning_rate": rate, "samples": 96}
        )


def test_chosen_columns_stand_in_the_table_and_sort_it(browse, two, alice):
    client = browse(alice)
    text = html(client.get(f"/?columns={COLUMNS}"))
    assert 'data-label="config.learning_rate">0.25<' in text
    assert 'data-label="config.samples">96<' in text
    assert "ordering=config.learning_rate" in text
    sorted_text = words(html(client.get(f"/?columns={COLUMNS}&ordering=config.learning_rate")))
    assert sorted_text.index("rate 0.125") < sorted_text.index("rate 0.25")


def test_a_job_without_the_value_has_an_empty_cell(browse, two, alice):
    text = html(browse(alice).get("/?columns=metric.accuracy"))
    assert 'data-label="metric.accuracy">\u2013<' in text


def test_they_are_offered_kept_in_the_address_and_narrow_nothing(browse, two, alice):
    filters = Filters.read(f"columns={COLUMNS}")
    assert filters.query() == f"columns={COLUMNS}"
    assert not filters.narrows
    text = html(browse(alice).get(f"/?columns={COLUMNS}"))
    assert '<option value="config.batch_size">' in text
    assert f"status=queued&amp;columns={COLUMNS}" in text.replace("%2C", ",")


@pytest.mark.parametrize(
    "columns",
    ["job_name", "config.", "config.a<b", ",".join(f"config.x{n}" for n in range(MOST_COLUMNS + 1))],
)
def test_what_is_no_column_is_left_out(columns):
    assert Filters.read(f"columns={columns}").columns == ""


def test_the_table_for_a_spreadsheet_has_them_too(browse, two, alice):
    answer = browse(alice).get(f"/jobs/download/?columns={COLUMNS}&format=csv")
    head, *rows = b"".join(answer.streaming_content).decode().splitlines()
    assert head.endswith(",config.learning_rate,config.samples")
    assert [row.rsplit(",", 2)[1:] for row in rows] == [["0.125", "96"], ["0.25", "96"]]
