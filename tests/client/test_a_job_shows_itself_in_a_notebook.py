"""A card without JavaScript, with buttons where ipywidgets is, and the example notebook from its first cell on."""

import asyncio
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from heimdall.client.notebook import card, svg
from heimdall.client.shapes import JobFields

NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"
SERIES = {"metric": "loss", "per": "step", "steps": [1, 2, 3], "means": [3.0, None, 1.0]}


def fields(**changes) -> JobFields:
    shown = {
        "id": 7,
        "job_name": "a",
        "recipe": "tiny",
        "status": "running",
        "headline": "running",
        "current_step": 3,
    }
    shown |= {"progress_percent": 12.5, "verbs": ["pause", "cancel"], "error_message": "", "total_epochs": 0}
    return JobFields.of(shown | changes)


def test_what_people_wrote_cannot_become_part_of_the_page():
    shown = card(fields(job_name="<script>alert(1)</script>", error_message="<img onerror=x>"))
    assert "<script" not in shown
    assert "<img" not in shown


def test_a_curve_is_drawn_of_finite_values_alone():
    drawn = svg({"series": [SERIES]})
    assert drawn.count("<polyline") == 1
    assert 'points="0.0,0.0 420.0,110.0"' in drawn
    assert svg({"series": [SERIES | {"means": [None, None, None]}]}) == svg(None) == ""


@pytest.mark.processes
def test_buttons_are_the_verbs_and_ask_them(client):
    job = client.submit("tiny", device="cpu", pool="nowhere")
    bundle = job._repr_mimebundle_()
    assert {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"} <= set(bundle)
    from heimdall.client.notebook import buttons_card

    row = buttons_card(job).children[1]
    assert [button.description for button in row.children] == ["pause", "cancel", "refresh"]
    row.children[0].click()
    assert (job.refresh().status, [button.description for button in row.children]) == (
        "paused",
        ["resume", "discard", "refresh"],
    )
    job.discard()


@pytest.mark.processes
def test_the_example_notebook_runs_from_its_first_to_its_last_cell(site, tmp_path, monkeypatch):
    monkeypatch.setenv("HEIMDALL_SERVER", site.url)
    monkeypatch.setenv("HEIMDALL_TOKEN", site.token)
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    runner = NotebookClient(
        notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    asyncio.run(runner.async_execute())
    html = [
        output["data"]["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    assert "from a notebook" in html[0]
    assert ("completed" in html[-1], "<polyline" in html[-1]) == (True, True)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
