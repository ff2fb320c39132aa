"""Nodes and the queue through pages, REST, command and admin: the same facts, the same rights, the same verbs."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from tests.pages.conftest import buttons, html, words
from tests.support.tokens import token_of
from training import services
from training.models import Node, NodeEvent

pytestmark = pytest.mark.django_db


@pytest.fixture
def busy(make_job, node):
    """This host's node with a job of Alice in its slot, and a silent one beside it."""
    Node.objects.create(name="gone")
    job = make_job(job_name="in the slot")
    services.claim(node, slot=0, pid=1)
    return job


def browser(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def rest(user) -> Client:
    return Client(headers={"Authorization": f"Token {token_of(user)}"})


def command(*words: str, user: str) -> list[dict]:
    out = io.StringIO()
    verb, *names = words
    call_command("node", verb, *names, "--as", user, "--json", stdout=out, stderr=io.StringIO())
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_rest_and_command_show_the_same(busy, node, alice):
    shown = rest(alice).get("/v1/training/nodes").json()["results"]
    assert shown == command("list", user="alice")
    by_name = {one["name"]: one for one in shown}
    slot = by_name[node.name]["slots"][0]
    assert (slot["job"], slot["job_name"], slot["is_taken"]) == (busy.pk, "in the slot", True)
    assert (by_name[node.name]["state"], by_name["gone"]["state"]) == ("live", "silent")
    one = rest(alice).get(f"/v1/training/nodes/{node.name}").json()
    assert one["events"][0]["message"] == "Its worker started with 1 slot."
    assert command("show", node.name, user="alice") == [one]


def test_a_job_that_one_cannot_see_is_a_taken_slot(busy, node, mallory):
    slot = rest(mallory).get(f"/v1/training/nodes/{node.name}").json()["slots"][0]
    assert (slot["job"], slot["job_name"], slot["is_taken"]) == (None, "", True)
    page = words(html(browser(mallory).get("/nodes/")))
    assert "someone else's job" in page
    assert "in the slot" not in page


def test_a_list_costs_the_same_few_queries_however_many_nodes_there_are(busy, alice):
    client = browser(alice)

    def num_queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert client.get("/nodes/").status_code == 200
        return len(seen)

    client.get("/nodes/")
    few = num_queries()
    Node.objects.bulk_create(Node(name=f"n{number}") for number in range(20))
    assert num_queries() == few <= 8


DOORS = {
    "page": lambda user, name, verb: (
        browser(user).post(f"/nodes/{name}/{verb}/").headers["X-Heimdall-Answer"]
    ),
    "rest": lambda user, name, verb: _by_rest(user, name, verb),
    "command": lambda user, name, verb: _by_command(user, name, verb),
}


def _by_rest(user, name: str, verb: str) -> str:
    url = f"/v1/training/nodes/{name}"
    answer = (
        rest(user).delete(url)
        if verb == "remove"
        else rest(user).post(f"{url}/{verb}", content_type="application/json")
    )
    refusals = {204: "done", 403: "not_allowed", 409: "refused"}
    return refusals.get(answer.status_code) or answer.json()["answer"]


def _by_command(user, name: str, verb: str) -> str:
    try:
        return command(verb, name, user=user.username)[0]["answer"]
    except SystemExit as end:
        return {3: "refused", 4: "not_allowed"}[end.code]


@pytest.mark.parametrize("door", DOORS)
def test_the_verbs_of_nodes_through_each_door(door, busy, node, alice, admin_user):
    ask = DOORS[door]
    for verb in services.NODE_VERBS:
        assert ask(alice, node.name, verb) == "not_allowed"
    assert ask(admin_user, node.name, "drain") == "noted"
    assert ask(admin_user, node.name, "drain") == "already"
    assert ask(admin_user, node.name, "undrain") == "done"
    assert ask(admin_user, node.name, "remove") == "refused"
    assert ask(admin_user, "gone", "remove") == "done"
    assert not Node.objects.filter(name="gone").exists()
    told = list(NodeEvent.objects.filter(user=admin_user).order_by("id").values_list("kind", flat=True))
    assert told == ["drain", "undrain", "remove"]


def test_buttons_are_exactly_the_verbs_and_are_asked_first(busy, node, alice, admin_user):
    client = browser(admin_user)
    assert buttons(html(browser(alice).get("/nodes/"))) == {}
    assert buttons(html(client.get(f"/nodes/{node.name}/"))) == {"drain": True}
    assert buttons(html(client.get("/nodes/gone/"))) == {"drain": True, "remove": True}
    asked = html(client.get(f"/nodes/{node.name}/drain/"))
    assert "data-ask" in asked
    assert f"Drain node {node.name}?" in asked
    assert client.get("/nodes/nowhere/").status_code == 404
    assert client.get(f"/nodes/{node.name}/explode/").status_code == 404


def test_the_queue_page_shows_the_order_and_why(busy, make_job, alice, mallory):
    low, high = make_job(job_name="later"), make_job(job_name="sooner", priority=5, pool="big")
    page = html(browser(alice).get("/queue/"))
    assert page.index(f"queued-{high.pk}") < page.index(f"queued-{low.pk}")
    assert "No live node is in the pool big." in words(page)
    assert "The only slot is taken. 1 job goes first." in words(page)
    hidden = words(html(browser(mallory).get("/queue/")))
    assert "2 jobs wait" in hidden
    assert "sooner" not in hidden


def test_the_page_of_a_queued_job_says_why_it_waits(busy, make_job, alice):
    job = make_job()
    page = words(html(browser(alice).get(f"/jobs/{job.pk}/")))
    assert "The only slot is taken. It is next." in page


def test_the_admin_shows_nodes_with_their_jobs_and_history(busy, node, admin_user):
    client = browser(admin_user)
    page = words(html(client.get("/admin/training/node/")))
    assert "live" in page
    assert f"#{busy.pk}" in page
    assert "Its worker started" in html(client.get(f"/admin/training/node/{node.pk}/change/"))
