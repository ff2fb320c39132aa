"""A check of exactness is a job of its own; what it shows holds for the same script on the same device and torch."""

import json

import pytest
from django.test import Client

from heimdall.errors import InvalidInput
from tests.pages.conftest import html, words
from tests.support.programs import kept, submitted
from tests.support.tokens import bearer
from training import queries, services
from training.errors import NotAllowed, NotFound
from training.models import ExactnessCheck, LogChunk, TrainingJob
from training.services import exactness

pytestmark = pytest.mark.django_db
SCRIPT = {"train.py": "import heimdall\n"}
PLACE = {"device_name": "H200", "torch": "2.13.0"}
SECRET = "correct horse battery"


def ended(check: TrainingJob, verdict="exact", place=PLACE, before="", reason="Because.", word=None) -> None:
    """What its log says when its process has ended."""
    result = {"verdict": verdict, "reason": reason, "environment": place}
    word = exactness.check_word(check) if word is None else word
    LogChunk.objects.create(
        job=check, attempt=1, text=f"{before}EXACT\n{exactness.RESULT_MARK}{word} {json.dumps(result)[:9]}"
    )
    LogChunk.objects.create(job=check, attempt=1, text=f"{json.dumps(result)[9:]}\n")
    exactness.note_result(check)


def promise(job: TrainingJob, **environment) -> str:
    TrainingJob.objects.filter(pk=job.pk).update(environment=environment)
    job.refresh_from_db()
    return queries.promise(job)


def test_a_check_runs_the_same_script_with_the_same_settings_and_secrets(admin_user):
    program = {"command": ["python", "train.py", "--lr", "1"], "variables": {"MODE": "fast"}}
    job = submitted(
        admin_user, files=SCRIPT, program=program, config={"epochs": 3}, secrets={"API_KEY": SECRET}
    )
    check = services.check(job, by=admin_user, steps=12).job
    command = check.program["command"]
    assert command[-5:] == ["--", "python", "train.py", "--lr", "1"]
    assert command[:3] == ["python", "-m", "heimdall.check"]
    assert json.loads(command[command.index("--config") + 1]) == {"epochs": 3}
    assert (check.code, check.parent, check.program["variables"]) == (job.code, job, {"MODE": "fast"})
    assert services.opened(check.secrets) == {"API_KEY": SECRET}
    assert services.is_check(check)
    assert not services.is_check(job)


def test_a_passed_check_holds_for_the_same_script_on_the_same_device_and_torch(admin_user):
    job, same = (submitted(admin_user, files=SCRIPT) for _ in range(2))
    others = [
        submitted(admin_user, files=SCRIPT, program={"command": ["python", "train.py", "--lr", "2"]}),
        submitted(admin_user, files={"train.py": "import heimdall  # changed\n"}),
    ]
    ended(services.check(job, by=admin_user).job, before="noise\n" * 10)
    later = submitted(admin_user, files=SCRIPT, config={"epochs": 9})
    for one in (job, same, later):
        assert promise(one, **PLACE) == "exact"
        assert promise(one) == "not shown to be exact"  # nobody knows yet where it will train
        assert promise(one, **PLACE | {"torch": "2.12.0"}) == "not shown to be exact"
        assert promise(one, **PLACE | {"device_name": "A100"}) == "not shown to be exact"
    assert [promise(one, **PLACE) for one in others] == ["not shown to be exact"] * 2


@pytest.mark.parametrize("verdict", ["differs", "not_repeatable", "not_checked"])
def test_a_check_that_did_not_pass_is_kept_and_shown_and_promises_nothing(admin_user, verdict):
    job = submitted(admin_user, files=SCRIPT)
    check = services.check(job, by=admin_user).job
    ended(check, verdict)
    assert promise(job, **PLACE) == "not shown to be exact"
    assert ExactnessCheck.objects.get().result["verdict"] == verdict
    client = Client()
    client.force_login(admin_user)
    shown = words(html(client.get(f"/jobs/{job.pk}/")))
    assert f"Checked {verdict.replace('_', ' ')} on H200, torch 2.13.0, by job {check.pk} : Because." in shown


def test_the_page_of_a_check_shows_its_findings_and_its_log_no_line_of_ours(admin_user, node):
    job = submitted(admin_user, files=SCRIPT)
    check = services.check(job, by=admin_user).job
    client = Client()
    client.force_login(admin_user)
    waiting = words(html(client.get(f"/jobs/{check.pk}/")))
    assert f"Check of exactness the script of job {job.pk} It trains the script straight, twice" in waiting
    attempt = services.claim(node=node, slot=0, pid=1, job_id=check.pk)
    controls = [
        {"name": name, "left_out": f"the {name}", "was_noticed": name == "generators"}
        for name in ("generators", "schedule")
    ]
    result = {
        "verdict": "exact",
        "reason": "Because.",
        "steps": 30,
        "stops": [[14, 29], [1]],
        "controls": controls,
    }
    said = (
        f"{exactness.RESULT_MARK}{exactness.check_word(check)} {json.dumps(result | {'environment': PLACE})}"
    )
    for text in (f"noise\nEXACT: Because.\n{said[:30]}", said[30:60], f"{said[60:]}\rThe result was kept.\n"):
        LogChunk.objects.create(job=check, attempt=1, text=text)
    services.complete(attempt, None)
    page = html(client.get(f"/jobs/{check.pk}/"))
    shown = words(page)
    found = "Found Because. Steps trained 30 Stopped after step 14, 29 Stopped after step 1 Without the generators"
    assert (
        f"Exact the script of job {job.pk} {found} noticed Without the schedule not noticed : the result is the same"
        in shown
    )
    assert "On H200, torch 2.13.0" in shown
    assert exactness.check_word(check) not in page
    assert exactness.RESULT_MARK not in page
    log = "".join(LogChunk.objects.filter(job=check).order_by("id").values_list("text", flat=True))
    assert log == "noise\nEXACT: Because.\nThe result was kept.\n"
    assert "Completed. " in shown
    assert "after 0 epochs" not in shown
    assert "does not say how long" not in shown


def test_the_log_of_another_program_shows_nothing(admin_user):
    job = submitted(admin_user, files=SCRIPT)
    ended(job)
    assert not ExactnessCheck.objects.exists()
    assert promise(job, **PLACE) == "not shown to be exact"


@pytest.mark.parametrize("word", ["", "0" * 32])
def test_what_a_script_prints_does_not_pass_for_the_result_of_its_check(admin_user, word):
    job = submitted(admin_user, files=SCRIPT)
    first = services.check(job, by=admin_user).job
    ended(first, word=word)
    ended(services.check(job, by=admin_user).job, word=exactness.check_word(first))
    assert set(ExactnessCheck.objects.values_list("verdict", flat=True)) == {""}
    assert promise(job, **PLACE) == "not shown to be exact"


def test_a_check_under_other_variables_or_secrets_shows_nothing_of_this_job(admin_user):
    """They may lead the program elsewhere, and whoever sees a job may copy it with some of their own."""
    job = submitted(admin_user, files=SCRIPT)
    for given in ({"variables": {"PATH": "/elsewhere"}}, {"secrets": ["PATH"]}):
        program = {"command": ["python", "train.py"]} | given
        secrets = {"PATH": "/elsewhere"} if "secrets" in given else None
        copy = services.clone(job, by=admin_user, program=program, secrets=secrets).job
        ended(services.check(copy, by=admin_user).job)
        assert (promise(copy, **PLACE), promise(job, **PLACE)) == ("exact", "not shown to be exact")


@pytest.mark.parametrize("place", ["a text", None, {"device_name": "a\0b", "torch": float("nan")}])
def test_a_result_that_no_database_holds_ends_the_check_all_the_same(admin_user, place):
    check = services.check(submitted(admin_user, files=SCRIPT), by=admin_user).job
    ended(check, "differs", place=place, reason="a\0b\ud800" + "x" * 100_000)
    found = ExactnessCheck.objects.get()
    assert (found.verdict, "\0" in f"{found.reason}{found.device_name}{found.result}") == ("differs", False)
    assert len(found.reason) < 2_000


def test_what_cannot_be_checked_is_refused_with_its_reason(admin_user, make_job):
    command = submitted(admin_user, program={"command": ["ls"]})
    with pytest.raises(InvalidInput, match="nothing to check"):
        services.check(command, by=admin_user)
    with pytest.raises(InvalidInput, match="which is exact"):
        services.check(make_job(), by=admin_user)
    with pytest.raises(InvalidInput, match="from 3 to"):
        services.check(submitted(admin_user, files=SCRIPT), by=admin_user, steps=2)
    long = submitted(admin_user, files=SCRIPT, config={"text": "x" * 5_000})
    with pytest.raises(InvalidInput, match="longer than 4000"):
        services.check(long, by=admin_user)
    assert not ExactnessCheck.objects.exists()


def test_who_may_run_programs_and_sees_the_job_may_check_it(admin_user, bob, mallory, team, settings):
    job = submitted(admin_user, files=SCRIPT, team=team)
    with pytest.raises(NotAllowed, match="programmers"):
        services.check(job, by=bob)
    with pytest.raises(NotFound):
        services.check(job, by=mallory)
    statuses = {}
    for user in (admin_user, bob, mallory):
        answer = Client().post(
            f"/v1/training/jobs/{job.pk}/check",
            {"steps": 12},
            content_type="application/json",
            headers=bearer(user),
        )
        browser = Client()
        browser.force_login(user)
        statuses[user.username] = (answer.status_code, browser.post(f"/jobs/{job.pk}/check/").status_code)
    assert statuses == {"root": (201, 302), "bob": (403, 403), "mallory": (404, 404)}
    settings.PROGRAMS = False
    with pytest.raises(NotAllowed, match="HEIMDALL_PROGRAMS=0"):
        services.check(job, by=admin_user)


def test_the_admin_checks_those_that_were_selected(admin_user, make_job):
    client = Client()
    client.force_login(admin_user)
    script, recipe = submitted(admin_user, files=SCRIPT), make_job()
    chosen = {"action": "check_exactness", "_selected_action": [script.pk, recipe.pk]}
    text = html(client.post("/admin/training/trainingjob/", chosen, follow=True))
    assert ExactnessCheck.objects.get().of == script
    assert f"Job {recipe.pk} runs a recipe, which is exact" in text


def test_the_page_asks_and_is_offered_for_scripts_alone(admin_user):
    client = Client()
    client.force_login(admin_user)
    script, command = submitted(admin_user, files=SCRIPT), submitted(admin_user, program={"command": ["ls"]})
    assert kept(admin_user, SCRIPT) == script.code
    assert f"/jobs/{script.pk}/check/" in html(client.get(f"/jobs/{script.pk}/"))
    assert f"/jobs/{command.pk}/check/" not in html(client.get(f"/jobs/{command.pk}/"))
    assert "compares everything bit for bit" in words(html(client.get(f"/jobs/{script.pk}/check/")))
    assert "nothing to check" in words(html(client.get(f"/jobs/{command.pk}/check/")))
