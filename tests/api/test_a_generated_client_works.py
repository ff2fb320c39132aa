"""What openapi-python-client makes of the API's description submits, pauses and reads jobs, all of it typed."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from drf_spectacular.generators import SchemaGenerator

from tests.support.tokens import token_of

API_PAGE = Path(__file__).parents[2] / "docs/api.md"
NAME = "heimdall_client"


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """The package, made as docs/api.md says; not one warning, so nothing was left out."""
    folder = tmp_path_factory.mktemp("client")
    config = re.search(r"```yaml\n(content_type_overrides:.*?)```", API_PAGE.read_text(), re.DOTALL)[1]
    (folder / "client.yaml").write_text(config + "post_hooks: []\n")
    schema = SchemaGenerator().get_schema(request=None, public=True)
    (folder / "schema.json").write_text(json.dumps(schema, default=str))
    made = subprocess.run(
        [sys.executable, "-m", "openapi_python_client", "generate", "--path", "schema.json", "--meta", "none",
         "--output-path", NAME, "--config", "client.yaml", "--fail-on-warning"],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    sys.path.insert(0, str(folder))
    yield folder / NAME
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.split(".")[0] == NAME]:
        del sys.modules[name]


def load(name: str):
    return importlib.import_module(f"{NAME}.{name}")


@pytest.fixture
def client(generated, live_server, alice):
    token = token_of(alice)
    with load("client").AuthenticatedClient(base_url=live_server.url, token=token) as made:
        yield made


def test_every_module_of_it_can_be_imported(generated):
    modules = [path.relative_to(generated).with_suffix("") for path in generated.rglob("*.py")]
    assert len(modules) > 100
    for module in modules:
        load(".".join(part for part in module.parts if part != "__init__") or "client")


@pytest.mark.django_db(transaction=True)
def test_it_submits_pauses_and_reads_a_job_and_gets_typed_errors(client):
    models = load("models")
    body = models.LanguageModelJobRequest(
        job_name="typed", recipe="language_model", config=models.LanguageModelConfig(epochs=3)
    )
    submit = load("api.jobs.submit_job").sync
    made = submit(client=client, body=body, idempotency_key="one")
    assert isinstance(made, models.JobAndAnswer)
    assert (made.status, made.total_epochs) == (models.JobStatus.QUEUED, 3)
    assert submit(client=client, body=body, idempotency_key="one").id == made.id

    paused = load("api.jobs.pause_job").sync(made.id, client=client, body=models.PauseOptionsRequest())
    assert (paused.answer, paused.status) == (models.VerbOutcome.DONE, models.JobStatus.PAUSED)
    read = load("api.jobs.show_job").sync(made.id, client=client)
    assert isinstance(read, models.Job)
    assert read.verbs == [models.JobVerb.RESUME, models.JobVerb.DISCARD]

    refused = load("api.jobs.cancel_job").sync(made.id, client=client)
    assert isinstance(refused, models.Error)
    assert (refused.error.code, refused.error.status) == ("transition_refused", models.JobStatus.PAUSED)
    missing = load("api.jobs.show_job").sync(987_654, client=client)
    assert isinstance(missing, models.Error)
    assert missing.error.code == "not_found"
