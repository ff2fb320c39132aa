import json

import pytest

from heimdall.recipes import registry
from tests.pages.conftest import html, words
from training import services
from training.models import TrainingJob
from training.presentation.job_forms import NewJobForm

pytestmark = pytest.mark.django_db


def entered(name: str, **changes) -> dict[str, str]:
    """What a browser sends when nothing but the changes was touched."""
    sent = {"job_name": "from the page", "priority": "0", "description": ""}
    for field, schema in registry.schema(name)["properties"].items():
        value = changes.get(field, schema.get("default"))
        if value is True:
            sent[f"config.{field}"] = "on"
        elif value is not None and value is not False:
            sent[f"config.{field}"] = value if isinstance(value, str) else json.dumps(value)
    return sent | {name: value for name, value in changes.items() if name in ("job_name", "priority", "team")}


@pytest.mark.parametrize("name", registry.names())
def test_the_form_has_every_field_of_the_schema_and_its_defaults_are_valid(alice, name):
    form = NewJobForm(registry.get(name), alice, entered(name))
    assert {f"config.{field}" for field in registry.schema(name)["properties"]} <= set(form.fields)
    assert form.is_valid(), form.errors
    assert registry.validate(name, form.config) == registry.validate(name, {})


def test_submitting_queues_the_job_with_what_was_entered(browse, alice, team):
    answer = browse(alice).post(
        "/jobs/new/?recipe=tiny", entered("tiny", epochs=7, deterministic=False, team=team.pk)
    )
    job = TrainingJob.objects.get()
    assert answer["Location"] == f"/jobs/{job.pk}/"
    assert (job.job_name, job.owner, job.team, job.status) == ("from the page", alice, team, "queued")
    assert (job.config["epochs"], job.config["deterministic"], job.total_epochs) == (7, False, 7)


@pytest.mark.parametrize("name", registry.names())
def test_what_a_program_leaves_empty_takes_the_default(browse, alice, name):
    """A browser cannot choose nothing; a program may send `optimizer=`."""
    empty = {f"config.{field}": "" for field in registry.schema(name)["properties"]}
    browse(alice).post(f"/jobs/new/?recipe={name}", {"job_name": "from a program", "priority": "0"} | empty)
    booleans = {
        field: False
        for field, schema in registry.schema(name)["properties"].items()
        if schema.get("type") == "boolean"
    }
    assert TrainingJob.objects.get().config == registry.validate(name, booleans)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"learning_rate": "nan"}, "Enter a number"),
        ({"learning_rate": 0}, "learning_rate must be a number above 0"),
        ({"optimizer": "magic"}, "Select a valid choice"),
        ({"epochs": 3, "warmup_epochs": 4}, "warmup_epochs must not exceed epochs"),
        ({"job_name": "  "}, "This field is required"),
        ({"job_name": "bell \x07"}, "control character"),
        ({"priority": "101"}, "less than or equal to 100"),
    ],
)
def test_what_is_refused_is_said_beside_its_field_and_nothing_is_queued(browse, alice, changes, sentence):
    answer = browse(alice).post("/jobs/new/?recipe=tiny", entered("tiny", **changes))
    assert answer.status_code == 400
    assert sentence in words(html(answer))
    assert 'aria-invalid="true"' in html(answer)
    assert not TrainingJob.objects.exists()


def test_an_empty_number_takes_the_default(browse, alice):
    browse(alice).post("/jobs/new/?recipe=tiny", entered("tiny") | {"config.batch_size": ""})
    assert TrainingJob.objects.get().config == registry.validate("tiny", {})


def test_one_cannot_give_a_job_to_a_team_one_is_not_in(browse, mallory, team):
    answer = browse(mallory).post("/jobs/new/?recipe=tiny", entered("tiny", team=team.pk))
    assert answer.status_code == 302  # the form of a person without a team has no such field
    assert TrainingJob.objects.get().team is None


def test_a_clone_starts_with_the_other_jobs_settings_and_remembers_it(browse, alice, bob, team):
    config = {"epochs": 5, "seed": 41, "deterministic": False}
    first = services.submit(by=alice, job_name="first", recipe="tiny", config=config, team=team).job
    client = browse(bob)
    text = html(client.get(f"/jobs/new/?from={first.pk}"))
    assert 'value="first (copy)"' in text
    assert 'value="41"' in text
    client.post(f"/jobs/new/?from={first.pk}", entered("tiny", **config | {"seed": 42}))
    copy = TrainingJob.objects.latest("id")
    assert (copy.parent, copy.owner, copy.config) == (first, bob, first.config | {"seed": 42})
    assert f'href="/jobs/{first.pk}/"' in html(client.get(f"/jobs/{copy.pk}/"))


def test_an_unknown_recipe_is_404(browse, alice):
    assert browse(alice).get("/jobs/new/?recipe=nonsense").status_code == 404


def test_name_notes_and_priority_can_be_edited(browse, alice, make_job):
    job, client = make_job(), browse(alice)
    sent = {"job_name": "better", "description": "because", "priority": "3"}
    assert client.post(f"/jobs/{job.pk}/edit/", sent).status_code == 302
    job.refresh_from_db()
    assert (job.job_name, job.description, job.priority) == ("better", "because", 3)
    assert client.post(f"/jobs/{job.pk}/edit/", sent | {"priority": "1000"}).status_code == 400
