"""The request that docs/lists.md follows is one that the API answers, page by page, with the jobs that it names."""

import re
from pathlib import Path

import pytest

from training import services
from training.models import TrainingJob

PAGE = Path(__file__).parents[2] / "docs" / "lists.md"
REQUEST = re.search(r"^    GET (\S+)$", PAGE.read_text(), re.MULTILINE)

pytestmark = pytest.mark.django_db


def test_the_example_finds_what_it_asks_for_page_by_page(api, make_job):
    losses = [3.0, 1.0, 2.0, None]
    wanted = [make_job(status="failed", job_name=f"beam {loss}") for loss in losses]
    for job, loss in zip(wanted, losses, strict=True):
        services.edit(job, by=job.owner, tags=["red"])
        TrainingJob.objects.filter(pk=job.pk).update(best_val_loss=loss)
    make_job(status="failed", job_name="beam without a tag")
    services.edit(make_job(status="failed", job_name="no such word"), by=wanted[0].owner, tags=["red"])
    services.edit(make_job(status="completed", job_name="beam"), by=wanted[0].owner, tags=["red"])

    assert REQUEST
    address, _, cursor = REQUEST[1].partition("&cursor=")
    assert cursor == "..."
    first = api.get(f"{address}&page_size=3").json()
    rest = api.get(first["next"]).json()
    found = [job["best_val_loss"] for job in first["results"] + rest["results"]]
    assert found == [3.0, 2.0, 1.0, None]
    assert (first["count"], len(rest["results"]), rest["next"]) == (4, 1, None)
