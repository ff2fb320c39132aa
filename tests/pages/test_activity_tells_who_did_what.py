import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.pages.conftest import html, words
from training import services
from training.policy import System
from training.services.transition import add_event

pytestmark = pytest.mark.django_db


@pytest.fixture
def history(make_job, alice, bob, mallory):
    """Alice's job of the team, and one that is Mallory's alone."""
    ours = make_job(job_name="ours", status="running")
    services.pause(ours, by=bob)
    services.resume(ours, by=alice)
    for kind in ("epoch", "checkpoint", "crash"):
        tell(ours, kind, System("worker"))
    theirs = make_job(job_name="theirs", owner=mallory, team=None)
    services.cancel(theirs, by=mallory)
    return ours


def tell(job, kind, by) -> None:
    job.refresh_from_db()
    job.event_seq += 1
    job.save(update_fields=["event_seq"])
    add_event(job, kind, f"A {kind}.", by=by)


def kinds(answer) -> list[str]:
    return [event["kind"] for event in answer.context["events"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["crash", "resume", "pause"]),
        ("?who=bob", ["pause"]),
        ("?who=system", ["crash"]),
        ("?kind=people", ["resume", "pause"]),
        ("?kind=routine", ["checkpoint", "epoch"]),
        ("?kind=trouble&who=system", ["crash"]),
        ("?kind=nonsense&job=nonsense&before=nonsense&who=%00", ["crash", "resume", "pause"]),
        ("?job=999999", []),
        ("?who=nobody", []),
    ],
)
def test_the_address_says_which_events_are_shown(browse, alice, history, query, found):
    assert kinds(browse(alice).get("/activity/" + query)) == found


def test_one_sees_the_activity_of_the_jobs_that_one_sees(browse, history, mallory, viewer, admin_user):
    assert kinds(browse(mallory).get("/activity/")) == ["cancel"]
    for user in (viewer, admin_user):
        assert kinds(browse(user).get("/activity/")) == ["cancel", "crash", "resume", "pause"]
    assert kinds(browse(viewer).get(f"/activity/?job=%23{history.pk}")) == ["crash", "resume", "pause"]


def test_who_deleted_a_job_stays_known_to_those_who_could_see_it(
    browse, history, mallory, viewer, alice, bob
):
    for kind in ("land", "cancel"):
        tell(history, kind, System("worker"))
    type(history).objects.filter(pk=history.pk).update(
        status="cancelled", lease_expires_at=None, stop="", stop_at=""
    )
    services.delete(history, by=alice)
    for user in (alice, bob, viewer):
        page = browse(user).get(f"/activity/?job={history.pk}")
        assert kinds(page) == ["delete"]
        assert f"alice ours #{history.pk} Deleted." in words(html(page))
        assert f"/jobs/{history.pk}/" not in html(page)
    assert kinds(browse(mallory).get(f"/activity/?job={history.pk}")) == []
    assert kinds(browse(viewer).get("/activity/")) == ["delete", "cancel"]
    assert kinds(browse(viewer).get("/activity/?who=alice&kind=people")) == ["delete"]
    assert kinds(browse(viewer).get("/activity/?kind=trouble")) == []
    assert kinds(browse(viewer).get("/activity/?who=system")) == []


def test_deletions_stand_among_the_events_of_other_jobs(browse, history, make_job, alice):
    for name in ("first", "second"):
        services.delete(make_job(job_name=name, status="completed"), by=alice)
        tell(history, f"after the {name}", alice)
    client = browse(alice)
    assert kinds(client.get("/activity/"))[:4] == ["after the second", "delete", "after the first", "delete"]
    second = client.get("/activity/").context["events"][1]
    assert kinds(client.get(f"/activity/?before={second['id']}"))[:2] == ["after the first", "delete"]


def test_it_says_who_and_leads_to_the_job(browse, alice, history):
    text = html(browse(alice).get("/activity/"))
    assert f"bob ours #{history.pk} Asked to pause at the end of epoch 1." in words(text)
    assert f'href="/jobs/{history.pk}/"' in text
    assert "mallory" not in text


def test_older_events_follow_a_cursor_in_a_fixed_number_of_queries(browse, alice, history):
    for number in range(60):
        tell(history, f"kind {number}", alice)
    client = browse(alice)
    client.get("/activity/")
    with CaptureQueriesContext(connection) as queries:
        first = client.get("/activity/")
    assert len(queries) <= 8
    tell(history, "later", alice)  # shifts a page by number, not a cursor
    second = client.get(first.context["older_url"])
    shown = kinds(first) + kinds(second)
    assert shown == [*(f"kind {number}" for number in reversed(range(60))), "crash", "resume", "pause"]
    assert second.context["older_url"] is None


def test_an_empty_list_says_what_to_do(browse, alice):
    assert "No activity yet" in html(browse(alice).get("/activity/"))
    assert "No results" in html(browse(alice).get("/activity/?who=bob"))


def test_who_it_was_is_said_once(browse, alice):
    job = services.submit(by=alice, job_name="mine", recipe="tiny", config={}).job
    assert f"alice mine #{job.pk} Submitted." in words(html(browse(alice).get("/activity/")))
