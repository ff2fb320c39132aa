"""What openapi-python-client and openapi-typescript make of the API's description submits, pauses and reads jobs, all
of it typed."""

import importlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from drf_spectacular.generators import SchemaGenerator

from tests.support.tokens import token_of

ROOT = Path(__file__).parents[2]
API_PAGE, PACKAGES = ROOT / "docs/api.md", ROOT / "node_modules"
PROGRAM = Path(__file__).parent / "typescript/client.ts"
TSCONFIG = {
    "compilerOptions": {
        "strict": True,
        "target": "es2022",
        "module": "nodenext",
        "moduleResolution": "nodenext",
        "types": [],  # an empty word on the command line would be taken for a missing one
    },
    "files": ["client.ts", "globals.d.ts"],
}
NAME = "heimdall_client"


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """The package, made as docs/api.md says; not one warning, so nothing was left out."""
    folder = tmp_path_factory.mktemp("client")
    config = re.search(r"```yaml\n(content_type_overrides:.*?)```", API_PAGE.read_text(), re.DOTALL)[1]
    (folder / "client.yaml").write_text(config + "post_hooks: []\n")
    write_schema(folder / "schema.json")
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


def write_schema(path: Path) -> None:
    schema = SchemaGenerator().get_schema(request=None, public=True)
    path.write_text(json.dumps(schema, default=str))


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


@pytest.fixture
def compiled(tmp_path):
    """The program of tests/api/typescript with its types, checked strictly and made JavaScript."""
    if shutil.which("node") is None or not (PACKAGES / "openapi-typescript").is_dir():
        pytest.skip("needs Node and what package.json names: `npm ci`")
    write_schema(tmp_path / "schema.json")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    (tmp_path / "globals.d.ts").write_text("declare const process: { argv: string[] };\n")
    shutil.copy(PROGRAM, tmp_path)
    run_tool(tmp_path, "openapi-typescript", "schema.json", "-o", "schema.ts", "--default-non-nullable=false")
    text = PROGRAM.read_text().replace('"./schema"', '"./schema.js"')
    (tmp_path / "client.ts").write_text(text)
    (tmp_path / "tsconfig.json").write_text(json.dumps(TSCONFIG))
    run_tool(tmp_path, "tsc", "--project", ".")
    return tmp_path / "client.js"


def run_tool(folder: Path, name: str, *words: str) -> None:
    command = ["node", str((PACKAGES / ".bin" / name).resolve()), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.django_db(transaction=True)
def test_a_program_in_typescript_does_so_too(compiled, live_server, alice):
    done = subprocess.run(
        ["node", str(compiled), live_server.url, token_of(alice)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["whole"]), done.stderr
