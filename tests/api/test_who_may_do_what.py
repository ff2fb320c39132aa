"""The permission matrix, literally: who gets which answer, through every door."""

import re

import pytest
from django.test import Client

from tests.support.doors import DOORS, AdminDoor, BulkDoor, RestDoor
from tests.support.tokens import bearer

# The job is in a state from which the verb is possible, so that only the person decides.
STATE_FOR = {
    "see": {"status": "queued"},
    "pause": {"status": "running"},
    "resume": {"status": "paused"},
    "restart": {"status": "failed"},
    "cancel": {"status": "running"},
    "discard": {"status": "paused"},
    "delete": {"status": "completed"},
}
MATRIX = """
            see         pause        resume       restart      cancel       discard      delete
admin       done        noted        noted        noted        noted        done         done
owner       done        noted        noted        noted        noted        done         done
member      done        noted        noted        not_allowed  noted        not_allowed  not_allowed
viewer      done        not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed
stranger    not_found   not_found    not_found    not_found    not_found    not_found    not_found
inactive    login       login        login        login        login        login        login
nobody      login       login        login        login        login        login        login
"""
# The same people through programs with a token that may only read. Whether there is a job makes no difference.
READING = """
            see         pause        resume       restart      cancel       discard      delete
admin       done        not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed
owner       done        not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed
member      done        not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed
viewer      done        not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed
stranger    not_found   not_allowed  not_allowed  not_allowed  not_allowed  not_allowed  not_allowed
inactive    login       login        login        login        login        login        login
"""
HEAD, *ROWS = [line.split() for line in MATRIX.strip().splitlines()]
CASES = [(row[0], verb, word) for row in ROWS for verb, word in zip(HEAD, row[1:], strict=True)]


@pytest.fixture
def person(request, alice, bob, viewer, mallory, admin_user, django_user_model):
    people = {
        "admin": admin_user,
        "owner": alice,
        "member": bob,
        "viewer": viewer,
        "stranger": mallory,
        "nobody": None,
    }

    def of(role):
        if role != "inactive":
            return people[role]
        alice.is_active = False
        alice.save()
        return alice

    return of


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
@pytest.mark.parametrize("role", [row[0] for row in ROWS])
def test_each_role_gets_the_answer_that_the_matrix_says(door, role, make_job, person):
    if door.name == "command" and role in {"inactive", "nobody"}:
        return  # it names a user that is there, or it does not start: tests/commands
    expected = {verb: word for row, verb, word in CASES if row == role}
    jobs = {verb: make_job(**STATE_FOR[verb]) for verb in expected}
    user = person(role)
    assert {verb: door.ask(verb, job, user) for verb, job in jobs.items()} == expected
    for verb, job in jobs.items():
        changed = expected[verb] in {"done", "noted"} and verb != "see"
        assert (not type(job).objects.filter(pk=job.pk, event_seq=job.event_seq).exists()) is changed


@pytest.mark.parametrize("door", [RestDoor("read"), BulkDoor("read")], ids=lambda door: door.name)
@pytest.mark.parametrize(
    "row", [line.split() for line in READING.strip().splitlines()[1:]], ids=lambda row: row[0]
)
def test_a_token_that_may_only_read_gets_the_answer_that_the_matrix_says(door, row, make_job, person):
    role, *words = row
    jobs = {verb: make_job(**STATE_FOR[verb]) for verb in HEAD}
    user = person(role)
    assert {verb: door.ask(verb, job, user) for verb, job in jobs.items()} == dict(
        zip(HEAD, words, strict=True)
    )
    for job in jobs.values():
        assert type(job).objects.filter(pk=job.pk, event_seq=job.event_seq).exists()


def test_a_token_that_may_only_read_is_refused_by_whatever_changes_something(admin_user, make_job):
    """Each operation that the API describes, those of tomorrow too."""
    job, headers = make_job(), bearer(admin_user, "read")
    paths = Client().get("/v1/schema/?format=json", headers=headers).json()["paths"]
    operations = [(method, path) for path, known in paths.items() for method in known if method != "get"]
    assert len(operations) > 20
    for method, path in operations:
        address = re.sub(r"\{\w+\}", str(job.pk), path)
        answer = getattr(Client(), method)(address, {}, content_type="application/json", headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed"), (method, path)
        assert "scope of this token" in answer.json()["error"]["message"]


def test_a_job_offers_no_verb_to_a_token_that_may_only_read(make_job, alice):
    job = make_job(status="paused")
    shown = {
        scope: Client().get(f"/v1/training/jobs/{job.pk}", headers=bearer(alice, scope)).json()["verbs"]
        for scope in ("read", "admin")
    }
    assert (shown["read"], set(shown["admin"])) == ([], {"resume", "discard"})


def test_the_admin_is_closed_to_who_is_not_staff(make_job, alice):
    job = make_job(status="running")
    client = Client()
    client.force_login(alice)
    answer = client.post(f"/admin/training/trainingjob/{job.pk}/do/pause/")
    assert AdminDoor()._word("pause", answer) == "login"


def test_what_one_may_see_in_the_api_is_what_one_may_do(make_job, alice, bob, viewer, admin_user, client_of):
    verbs = {
        alice: {"resume", "discard"},
        admin_user: {"resume", "discard"},
        bob: {"resume"},
        viewer: set(),
    }
    job = make_job(status="paused")
    for user, expected in verbs.items():
        assert set(client_of(user).get(f"/v1/training/jobs/{job.pk}").json()["verbs"]) == expected


@pytest.mark.parametrize(
    ("role", "status"),
    [("admin", 200), ("owner", 200), ("member", 403), ("viewer", 403), ("stranger", 404), ("nobody", 401)],
)
def test_who_may_change_a_job_and_pin_its_checkpoints(role, status, make_job, person, client_of):
    job = make_job(status="paused", step=3, with_checkpoint=True)
    client = client_of(person(role))
    assert client.patch(f"/v1/training/jobs/{job.pk}", {"priority": 1}, format="json").status_code == status
    pin = f"/v1/training/jobs/{job.pk}/checkpoints/{job.latest_checkpoint_id}"
    assert client.patch(pin, {"pinned": True}, format="json").status_code == status


def test_everybody_with_a_login_may_submit_and_owns_what_they_submit(person, client_of):
    body = {"job_name": "mine", "recipe": "tiny"}
    for role in ("admin", "owner", "member", "viewer", "stranger"):
        answer = client_of(person(role)).post("/v1/training/jobs", body, format="json")
        assert (answer.status_code, answer.json()["owner"]) == (201, person(role).username)
    assert client_of(None).post("/v1/training/jobs", body, format="json").status_code == 401


def test_a_job_without_a_team_is_its_owners_alone(make_job, bob, alice):
    job = make_job(team=None)
    assert [RestDoor().ask("see", job, user) for user in (alice, bob)] == ["done", "not_found"]
