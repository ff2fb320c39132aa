"""Foreign pages and strangers are refused; whoever loses a right loses the socket."""

import asyncio
import itertools

import pytest
import websockets

from tests.live.server import Client, connect, watching
from training.live.routing import is_allowed

pytestmark = pytest.mark.processes


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://127.0.0.1", "null", "http://127.0.0.1:1", None]
)
@pytest.mark.parametrize("path", ["/ws/training/", "/ws/training/{job}/"])
async def test_a_page_of_another_site_is_refused_before_the_socket_opens(server, running, origin, path):
    who, job = running
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(server, path.format(job=job), session=who["session"], origin=origin)
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("path", ["/", "/ws/", "/ws/training", "/ws/training/x/", "/ws/training/1/more/"])
async def test_an_address_that_shows_nothing_is_refused(server, running, path):
    with pytest.raises(websockets.InvalidStatus) as refused:
        await connect(server, path, session=running[0]["session"])
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    "credential",
    [{}, {"session": "stale"}, {"token": "wrong"}, {"token": "wrong", "origin": None}],
    ids=["nothing", "a stale session", "a wrong token", "a wrong token of a program"],
)
@pytest.mark.parametrize("path", ["/ws/training/", "/ws/training/{job}/"])
async def test_without_a_login_the_socket_is_closed(server, running, path, credential):
    async with watching(server, path.format(job=running[1]), **credential) as client:
        assert await client.closed_with() == 4401
    assert client.messages == []


@pytest.mark.parametrize("path", ["/ws/training/{job}/", "/ws/training/987654/", f"/ws/training/{10**30}/"])
async def test_a_job_that_one_cannot_see_is_not_there(server, person, running, path):
    async with watching(server, path.format(job=running[1]), session=person()["session"]) as client:
        assert await client.closed_with() == 4404
    assert client.messages == []


async def test_a_session_beside_a_wrong_token_does_not_count(server, running):
    who, job = running
    async with watching(server, f"/ws/training/{job}/", session=who["session"], token="wrong") as client:
        assert await client.closed_with() == 4401


@pytest.mark.parametrize(("value", "code"), [("", None), ("wrong", 4401)])
async def test_a_token_may_come_as_a_subprotocol(server, running, value, code):
    who, job = running
    named = ["heimdall", f"heimdall.token.{value or who['token']}"]
    url = f"ws://127.0.0.1:{server.port}/ws/training/{job}/"
    async with websockets.connect(url, subprotocols=named, proxy=None) as opened:
        assert opened.subprotocol == "heimdall"
        if code is None:
            assert '"type":"picture"' in await opened.recv()
        else:
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await opened.recv()
            assert closed.value.rcvd.code == code


async def test_a_team_sees_its_jobs_with_its_own_verbs(server, writer, person):
    owner, mate = person(team="optics"), person(team="optics")
    job = writer.submit(by=owner["name"], team="optics")
    writer.verb(verb="cancel", job=job, by=owner["name"])
    for who, verbs in ((owner, ["resume", "restart", "delete"]), (mate, ["resume"])):
        async with watching(server, f"/ws/training/{job}/", session=who["session"]) as client:
            assert sorted((await client.receive())["job"]["verbs"]) == sorted(verbs)


async def test_whoever_loses_a_right_loses_the_socket(server, writer, person):
    """A logout, a revoked token, an inactive user, a team that was left, a job that was deleted: all at once."""
    owner = person(team="radar")
    job = writer.submit(by=owner["name"], team="radar")
    writer.verb(verb="cancel", job=job, by=owner["name"])
    other = writer.submit(by=owner["name"], team="radar")
    people = {why: person(team="radar") for why in ("logout", "revoked", "inactive", "left", "stays")}
    paths = [f"/ws/training/{other}/", "/ws/training/"]
    clients = {}
    for why, who in people.items():
        login = {"token": who["token"], "origin": None} if why == "revoked" else {"session": who["session"]}
        clients[why] = [await Client(server, path, **login).open() for path in paths]
    deleted = await Client(server, f"/ws/training/{job}/", session=owner["session"]).open()
    for client in [deleted, *itertools.chain.from_iterable(clients.values())]:
        await client.receive()

    began = asyncio.get_running_loop().time()
    writer.log_out(session=people["logout"]["session"])
    writer.revoke(token=people["revoked"]["token"])
    writer.deactivate(name=people["inactive"]["name"])
    writer.leave_team(name=people["left"]["name"], team="radar")
    writer.verb(verb="delete", job=job, by=owner["name"])
    assert await deleted.closed_with() == 4404
    for why in ("logout", "revoked", "inactive"):
        assert [await client.closed_with() for client in clients[why]] == [4401, 4401]
    one, listed = clients["left"]
    assert await one.closed_with() == 4404
    await listed.until(lambda seen: not seen.jobs)
    assert asyncio.get_running_loop().time() - began < 10

    one, listed = clients["stays"]
    writer.verb(verb="cancel", job=other, by=owner["name"])
    await one.until(lambda seen: seen.job["status"] == "cancelled")
    await listed.until(lambda seen: seen.jobs[other]["status"] == "cancelled")
    writer.join_team(name=people["left"]["name"], team="radar")
    await clients["left"][1].until(lambda seen: other in seen.jobs)
    for client in (one, listed, clients["left"][1]):
        await client.close()


def scope(origin: str | None = None, host: str | None = "lab.example", token: bool = False) -> dict:
    headers = [(b"host", host.encode())] if host else []
    headers += [(b"origin", origin.encode())] if origin is not None else []
    headers += [(b"authorization", b"Token x")] if token else []
    return {"type": "websocket", "headers": headers}


@pytest.mark.parametrize(
    ("wanted", "case"),
    [
        (True, {"origin": "http://lab.example"}),
        (True, {"origin": "http://lab.example:80"}),
        (True, {"origin": "http://lab.example:8000", "host": "lab.example:8000"}),
        (True, {"origin": "https://trusted.example"}),
        (True, {"origin": "https://a.cluster.example"}),
        (True, {"token": True}),
        (False, {}),
        (False, {"origin": ""}),
        (False, {"origin": "null", "token": True}),
        (False, {"origin": "http://evil.example", "token": True}),
        (False, {"origin": "https://lab.example"}),
        (False, {"origin": "http://lab.example:8000"}),
        (False, {"origin": "http://lab.example.evil.example"}),
        (False, {"origin": "http://evil.example/lab.example"}),
        (False, {"origin": "http://lab.example:x"}),
        (False, {"origin": "http://trusted.example"}),
        (False, {"origin": "https://cluster.example.evil"}),
        (False, {"origin": "http://rebound.example", "host": "rebound.example"}),
        (False, {"token": True, "host": "rebound.example"}),
        (False, {"token": True, "host": None}),
    ],
)
def test_the_rule_of_origins(settings, wanted, case):
    settings.ALLOWED_HOSTS = ["lab.example"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://trusted.example", "https://*.cluster.example"]
    assert is_allowed(scope(**case)) is wanted


def test_behind_tls_the_origin_is_https(settings):
    settings.ALLOWED_HOSTS, settings.HTTPS = ["lab.example"], True
    assert is_allowed(scope("https://lab.example"))
    assert not is_allowed(scope("http://lab.example"))
