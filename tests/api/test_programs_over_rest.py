"""Programs and their code over REST: brought, named, looked at and downloaded by those who may."""

import asyncio

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from heimdall.site.limits import bounded_bodies
from tests.support.programs import HELLO, archive_of, kept, submitted
from tests.support.tokens import bearer, token_of
from training import policy
from training.api.uploads import most_upload_bytes
from training.models import TrainingJob, code_storage
from training.store.code import most_packed_bytes

SECRET = "correct horse battery"
CODE = "/v1/training/code"


@pytest.fixture
def programmer(alice):
    alice.groups.add(Group.objects.get(name=policy.PROGRAMMERS))
    return type(alice).objects.get(pk=alice.pk)


@pytest.fixture
def api(client_of, programmer):
    return client_of(programmer)


def bring(user, archive=None, *, query="", media_type="application/octet-stream", scope="admin"):
    body = archive_of(HELLO) if archive is None else archive
    return Client().generic("POST", CODE + query, body, content_type=media_type, headers=bearer(user, scope))


def post(api, **fields):
    body = {"job_name": "mine", "program": {"command": ["python", "train.py"]}} | fields
    return api.post("/v1/training/jobs", body, format="json")


def test_code_is_brought_and_a_job_runs_it(api, programmer):
    answer = bring(programmer, query="?commit=" + "a" * 40 + "&is_dirty=true")
    assert answer.status_code == 201, answer.content
    brought = answer.json()
    assert (brought["files"], brought["num_files"], brought["is_dirty"]) == (["train.py"], 1, True)
    job = post(api, code=brought["digest"], secrets={"API_KEY": SECRET}, config={"epochs": 2})
    assert job.status_code == 201, job.content
    shown = job.json()
    assert (shown["recipe"], shown["code"], shown["total_epochs"]) == (None, brought["digest"], 2)
    assert (shown["program"]["kind"], shown["promise"]) == ("command", "none")
    listed = api.get("/v1/training/jobs").json()["results"][0]
    assert (listed["program"], listed["promise"]) == (shown["program"], "none")
    assert SECRET not in job.content.decode() + str(listed)
    assert api.get(f"{CODE}/{brought['digest']}").json()["jobs"] == [shown["id"]]
    download = api.get(f"{CODE}/{brought['digest']}/download")
    assert b"".join(download.streaming_content) == archive_of(HELLO)
    code = api.get(f"{CODE}/{brought['digest']}").json()
    assert (code["commit"], code["is_dirty"]) == ("a" * 40, True)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"program": "python train.py"}, "program"),
        ({"program": {"command": "python train.py"}}, "program.command"),
        ({"code": "abc"}, "code"),
        ({"code": "0" * 64}, "code"),
        ({"secrets": ["API_KEY"]}, "secrets"),
        ({"secrets": {"API_KEY": 7_000_000}}, "secrets"),
        ({"recipe": "tiny"}, "program"),
        ({"program": None}, "program"),
    ],
)
def test_a_bad_program_is_named_by_its_field(api, programmer, fields, field):
    answer = post(api, **{"code": kept(programmer).digest} | fields)
    assert answer.status_code == 400, answer.content
    assert any(name.startswith(field) for name in answer.json()["error"]["fields"]), answer.content
    assert not TrainingJob.objects.exists()


def test_whoever_brings_the_same_code_as_a_stranger_is_told_nothing_of_the_stranger(
    programmer, admin_user, mallory
):
    mallory.groups.add(Group.objects.get(name=policy.PROGRAMMERS))
    stranger = type(mallory).objects.get(pk=mallory.pk)
    first = bring(programmer, query="?commit=" + "a" * 40 + "&is_dirty=true").json()
    assert first["owner"] == programmer.username
    address = f"{CODE}/{first['digest']}"
    for path in (address, f"{address}/download"):
        assert Client().get(path, headers=bearer(stranger)).status_code == 404
    again = bring(stranger, query="?commit=" + "b" * 40).json()
    assert (again["owner"], again["commit"], again["is_dirty"]) == ("", "b" * 40, False)
    assert Client().get(address, headers=bearer(programmer)).json()["commit"] == "a" * 40
    assert bring(admin_user).json()["owner"] == programmer.username


def test_code_of_another_type_or_of_a_bad_commit_is_refused(programmer):
    assert bring(programmer, media_type="text/plain").status_code == 415
    assert list(bring(programmer, query="?commit=main").json()["error"]["fields"]) == ["commit"]
    answer = bring(programmer, b"no archive")
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["code"])


WHO = """
             brings       submits      sees      downloads
admin        201          201          200       200
programmer   201          201          200       200
member       403          403          200       200
viewer       403          403          200       200
stranger     403          403          404       404
reading      403          403          200       200
nobody       401          401          401       401
turned_off   403          403          200       200
"""


@pytest.mark.parametrize(
    "row", [line.split() for line in WHO.strip().splitlines()[1:]], ids=lambda row: row[0]
)
def test_who_may_do_what_with_programs(
    row, programmer, bob, viewer, mallory, admin_user, settings, client_of, team
):
    role, *expected = row
    job = submitted(programmer, team=team)
    people = {"admin": admin_user, "member": bob, "viewer": viewer, "stranger": mallory}
    user = people.get(role, programmer)
    headers = {} if role == "nobody" else bearer(user, "read" if role == "reading" else "admin")
    settings.PROGRAMS = role != "turned_off"
    brought = Client().generic(
        "POST", CODE, archive_of(HELLO), content_type="application/gzip", headers=headers
    )
    body = {"job_name": "x", "program": {"command": ["ls"]}, "code": job.code.digest}
    made = Client().post("/v1/training/jobs", body, content_type="application/json", headers=headers)
    seen = Client().get(f"{CODE}/{job.code.digest}", headers=headers)
    download = Client().get(f"{CODE}/{job.code.digest}/download", headers=headers)
    download.close()
    assert [str(one.status_code) for one in (brought, made, seen, download)] == expected


def test_only_who_may_run_programs_may_send_more_than_a_mebibyte(programmer, mallory, settings):
    def most(user, path=CODE):
        headers = [(b"authorization", f"Bearer {token_of(user)}".encode())]
        return most_upload_bytes({"method": "POST", "path": path, "headers": headers})

    assert (most(programmer), most(mallory)) == (most_packed_bytes(), 0)
    assert most(programmer, "/v1/training/jobs") == 0
    client = Client()
    client.force_login(programmer)
    cookie = f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"
    scope = {"method": "POST", "path": "/jobs/new/program/", "headers": [(b"cookie", cookie.encode())]}
    assert most_upload_bytes(scope) == most_packed_bytes()
    assert most_upload_bytes(scope | {"headers": []}) == 0


def test_a_body_that_is_larger_is_refused_before_anything_reads_it():
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        raise AssertionError("nothing is read")

    async def never(scope, receive, send):
        raise AssertionError("nobody is asked")

    scope = {"path": CODE, "method": "POST", "headers": [(b"content-length", b"5000000000")]}
    asyncio.run(bounded_bodies(never, most_upload_bytes=lambda scope: 70_000_000)(scope, receive, send))
    assert sent[0]["status"] == 413
    assert b"70000000" in sent[1]["body"]


def test_code_whose_file_is_gone_is_told(api, programmer):
    code = kept(programmer, {"gone.py": "print('gone')"})
    code_storage().delete(code.file.name)
    answer = api.get(f"{CODE}/{code.digest}/download")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "bad_code")


def test_a_copy_may_have_another_program_and_keeps_its_own_secrets(api, programmer):
    job = submitted(programmer, secrets={"API_KEY": SECRET}, config={"epochs": 3})
    body = {"config": {"epochs": 5}, "program": {"command": ["ls"], "secrets": ["API_KEY"]}}
    answer = api.post(f"/v1/training/jobs/{job.pk}/clone", body, format="json")
    assert answer.status_code == 201, answer.content
    copied = TrainingJob.objects.get(pk=answer.json()["id"])
    assert (copied.program["command"], copied.total_epochs, copied.code) == (["ls"], 5, job.code)
    assert copied.secrets
