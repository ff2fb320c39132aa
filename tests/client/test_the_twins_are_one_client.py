"""The synchronous client is made of the asynchronous one, and shows everything that the API shows."""

from dataclasses import fields

import pytest
from drf_spectacular.generators import SchemaGenerator

from heimdall.client import twin
from heimdall.client.errors import BY_CODE, ApiError, from_detail
from heimdall.client.shapes import CheckpointFields, JobFields
from training.api import errors


def test_the_synchronous_client_is_the_one_that_is_made_now():
    kept = {path.name: path.read_text() for path in twin.TARGET.glob("*.py")}
    assert kept == twin.made(), "heimdall/client/synchronous is stale: run make client"


@pytest.mark.parametrize(("shape", "component"), [(JobFields, "Job"), (CheckpointFields, "Checkpoint")])
def test_each_field_of_the_api_is_typed(shape, component):
    shown = SchemaGenerator().get_schema(request=None, public=True)["components"]["schemas"][component]
    assert {one.name for one in fields(shape)} - {"raw"} == set(shown["properties"])


def test_a_field_of_a_newer_server_is_kept_and_one_that_an_older_lacks_is_none():
    job = JobFields.of({"id": 7, "status": "paused", "brand_new": 1})
    assert (job.id, job.is_at_rest, job.val_loss, job.raw["brand_new"]) == (7, True, None, 1)


def test_each_code_of_the_api_is_a_class():
    codes = {kind.code for kind in errors.STATUS_OF} | {
        "not_authenticated",
        "throttled",
        "too_large",
        "server_error",
    }
    assert codes - set(BY_CODE) == {"stale_attempt"}  # a worker's
    other = from_detail({"code": "brand_new", "message": "A sentence."})
    assert (type(other), other.code, str(other)) == (ApiError, "brand_new", "A sentence.")
