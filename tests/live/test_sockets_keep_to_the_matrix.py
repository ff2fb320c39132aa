"""The permission matrix of the other doors, literally the same, where a socket shows a job and its buttons."""

from __future__ import annotations

import pytest

from tests.api.test_who_may_do_what import CASES, ROWS
from tests.live.server import watching

pytestmark = pytest.mark.processes

CLOSED_WITH = {"login": 4401, "not_found": 4404}
OFFERED = {  # to those who may do everything
    "running": {"pause", "cancel"},
    "paused": {"resume", "discard"},
    "cancelled": {"resume", "restart", "delete"},
}


@pytest.fixture
def jobs(writer, person):
    """The owner, and a job of the team in each state."""
    owner = person(team="matrix")
    submitted = {status: writer.submit(by=owner["name"], team="matrix") for status in OFFERED}
    writer.claim(job=submitted["running"])
    writer.verb(verb="pause", job=submitted["paused"], by=owner["name"])
    writer.verb(verb="cancel", job=submitted["cancelled"], by=owner["name"])
    return owner, submitted


@pytest.fixture
def login(writer, person, jobs):
    def of(role: str) -> dict[str, str]:
        if role in {"nobody", "owner"}:
            return {} if role == "nobody" else {"session": jobs[0]["session"]}
        wanted = {"admin": {"superuser": True}, "member": {"team": "matrix"}, "viewer": {"views": True}}
        who = person(**wanted.get(role, {"team": "matrix"} if role == "inactive" else {}))
        if role == "inactive":
            writer.deactivate(name=who["name"])
        return {"session": who["session"]}

    return of


@pytest.mark.parametrize("role", [row[0] for row in ROWS])
async def test_a_socket_shows_each_role_what_the_matrix_says(server, jobs, login, role):
    words = {verb: word for row, verb, word in CASES if row == role}
    credential = login(role)
    for status, job in jobs[1].items():
        async with watching(server, f"/ws/training/{job}/", **credential) as client:
            if words["see"] in CLOSED_WITH:
                assert await client.closed_with() == CLOSED_WITH[words["see"]]
                assert client.messages == []
                continue
            await client.receive()
            assert client.job["status"] == status
            may = {verb for verb, word in words.items() if word in {"done", "noted"}}
            assert set(client.job["verbs"]) == OFFERED[status] & may


@pytest.mark.parametrize("role", [row[0] for row in ROWS])
async def test_the_list_holds_the_jobs_that_the_role_sees(server, jobs, login, role):
    sees = next(word for row, verb, word in CASES if (row, verb) == (role, "see"))
    async with watching(server, "/ws/training/", **login(role)) as client:
        if sees == "login":
            assert await client.closed_with() == CLOSED_WITH["login"]
            return
        await client.receive()
        assert set(jobs[1].values()) & set(client.jobs) == (
            set(jobs[1].values()) if sees == "done" else set()
        )
