"""A list with a name: by the page and the API, for oneself or a team; nobody else sees or changes it."""

import json

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from heimdall.errors import InvalidInput
from tests.pages.conftest import html
from tests.support.tokens import token_of
from training import services
from training.errors import NotAllowed, NotFound
from training.models import SavedView

pytestmark = pytest.mark.django_db


def rest(user, method, path="", body=None):
    headers = {"Authorization": f"Token {token_of(user)}"}
    send = getattr(Client(), method)
    options = {"data": json.dumps(body), "content_type": "application/json"} if body is not None else {}
    return send(f"/v1/training/views{path}", headers=headers, **options)


def names(client) -> list[str]:
    return [view["name"] for view in client.get("/").context["views"]]


@pytest.fixture
def a_job(make_job):
    return make_job(status="failed")


def test_a_list_is_saved_by_the_page_and_opened_again(browse, alice, a_job):
    client = browse(alice)
    answer = client.post("/views/", {"name": "my failures", "query": "owner=me&status=failed&color=red"})
    assert answer["Location"] == "/?status=failed&owner=me"
    page = client.get(answer["Location"])
    assert "The list is saved as my failures." in html(page)
    assert page.context["view"].name == "my failures"
    assert 'href="/?status=failed&amp;owner=me" aria-current="page">my failures' in html(page)
    client.post("/views/", {"name": "my failures", "query": "status=failed"})
    view = SavedView.objects.get()
    assert (view.owner, view.query, view.team) == (alice, "status=failed", None)


def test_a_shared_list_is_seen_by_the_team_alone_and_changed_by_its_owner(
    browse, alice, bob, mallory, viewer, a_job
):
    browse(alice).post("/views/", {"name": "ours", "query": "status=failed", "team": "radio"})
    browse(alice).post("/views/", {"name": "mine", "query": "status=failed"})
    assert names(browse(alice)) == ["mine", "ours"]
    assert names(browse(bob)) == ["ours"]
    assert names(browse(viewer)) == []
    view = SavedView.objects.get(name="ours")
    assert browse(bob).post(f"/views/{view.pk}/delete/").status_code == 403
    assert browse(mallory).post(f"/views/{view.pk}/delete/").status_code == 404
    assert browse(alice).post(f"/views/{view.pk}/delete/")["Location"] == "/"
    assert names(browse(bob)) == []


def test_one_shares_with_teams_of_ones_own(browse, alice, admin_user, a_job):
    Group.objects.create(name="vision")
    browse(alice).post("/views/", {"name": "x", "query": "status=failed", "team": "vision"})
    assert not SavedView.objects.exists()
    answer = rest(alice, "post", body={"name": "x", "query": "status=failed", "team": "vision"})
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["team"])
    assert rest(admin_user, "post", body={"name": "x", "query": "", "team": "vision"}).status_code == 201


def test_programs_save_change_and_delete_them(alice, bob, mallory):
    made = rest(alice, "post", body={"name": "failures", "query": "status=failed", "team": "radio"})
    assert made.status_code == 201
    view = made.json()
    assert (view["url"], view["owner"], view["team"]) == ("/?status=failed", "alice", "radio")
    assert [one["id"] for one in rest(bob, "get").json()["results"]] == [view["id"]]
    assert rest(mallory, "get").json()["count"] == 0
    path = f"/{view['id']}"
    assert rest(bob, "patch", path, {"name": "theirs"}).status_code == 403
    assert rest(mallory, "delete", path).status_code == 404
    changed = rest(alice, "patch", path, {"name": "broken", "query": "status=failed&owner=me", "team": None})
    assert (changed.json()["name"], changed.json()["query"]) == ("broken", "status=failed&owner=me")
    assert rest(bob, "get").json()["count"] == 0
    assert rest(alice, "delete", path).status_code == 204
    assert not SavedView.objects.exists()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": " ", "query": ""}, "name"),
        ({"name": "x" * 81, "query": ""}, "name"),
        ({"name": "x", "query": "color=red"}, "query"),
        ({"name": "x", "query": "status=broken"}, "query"),
        ({"name": "x", "query": "a" * 1001}, "query"),
        ({"name": "x"}, "query"),
        ({"name": "x", "query": "", "colour": "red"}, "colour"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(alice, body, field):
    answer = rest(alice, "post", body=body)
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, [field])


def test_the_services_ask_who_and_whether_the_name_is_free(alice, bob, mallory, team):
    one = services.save_view(by=alice, name="one", query="?status=failed", team=team)
    assert one.query == "status=failed"
    services.save_view(by=alice, name="two", query="")
    with pytest.raises(InvalidInput, match="another saved view called two"):
        services.change_view(one, by=alice, name="two")
    with pytest.raises(NotAllowed):
        services.change_view(one, by=bob, name="three")
    with pytest.raises(NotFound):
        services.delete_view(one, by=mallory)
    for bad in ("a\nb", 7, "x" * 1001):
        with pytest.raises(InvalidInput, match="query"):
            services.save_view(by=alice, name="bad", query=bad)
