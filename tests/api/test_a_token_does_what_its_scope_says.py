"""Each operation of the API and the scope that it takes, literally; and the token of a job, which only reports."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from tests.support.tokens import bearer
from training import policy, services
from training.live.logins import Credential, look_up
from training.services import tokens

JOBS = "/v1/training/jobs"
SCOPES = ("report", "read", "act", "submit", "admin")
# The narrowest scope that may. Whoever adds an operation says here what it takes.
NARROWEST = {
    "read": """
        show_about show_me list_jobs show_job list_metrics list_events list_logs show_curve list_checkpoints
        show_checkpoint download_checkpoint show_artifact list_datasets show_dataset list_dataset_samples list_recipes
        show_recipe
        list_nodes show_node list_views list_subscriptions show_subscription list_subscription_deliveries
        show_watch
        show_program_code download_program_code list_tokens export_jobs
        list_replays show_certificate
        show_resources list_sweeps show_sweep show_sweep_report show_sweep_importances
    """,
    "act": """
        pause_job resume_job cancel_job ask_many_jobs locate_with_job pause_sweep resume_sweep cancel_sweep
    """,
    "submit": """
        submit_job try_submission clone_job extend_job fork_job check_job restart_job change_job change_checkpoint
        upload_program_code begin_external_job
        make_token_of_job verify_job submit_sweep extend_sweep
    """,
    "admin": """
        discard_job delete_job delete_dataset drain_node undrain_node remove_node save_view change_view delete_view
        add_subscription change_subscription delete_subscription renew_subscription_secret test_subscription
        send_subscription_delivery_again watch_job unwatch_job
        publish_certificate unpublish_certificate make_token revoke_token delete_sweep
    """,
}
TAKES = {name: scope for scope, names in NARROWEST.items() for name in names.split()}
REPORTS = {"report_metrics", "end_external_job"}  # for the token of a job, and from `submit` on
# The verbs of one job, where `may` alone decides: what a socket and a list offer, and each of many jobs.
VERBS = """
         see  pause  resume  cancel  restart  edit  discard  delete
read     yes  -      -       -       -        -     -        -
act      yes  yes    yes     yes     -        -     -        -
submit   yes  yes    yes     yes     yes      yes   -        -
admin    yes  yes    yes     yes     yes      yes   yes      yes
"""
pytestmark = pytest.mark.django_db


@pytest.fixture
def headers_of(alice, make_job):
    """Of a token of each scope: the job that the one of `report` belongs to is running."""
    job = make_job(status="running")

    def of(scope: str) -> dict[str, str]:
        if scope == "report":
            return {"Authorization": f"Bearer {tokens.issue_job_token(job)}"}
        return bearer(alice, scope)

    return of


def operations(headers) -> dict[str, tuple[str, str]]:
    paths = Client().get("/v1/schema/?format=json", headers=headers).json()["paths"]
    return {
        about["operationId"]: (method, path)
        for path, known in paths.items()
        for method, about in known.items()
    }


def test_each_operation_is_open_to_the_scopes_of_the_table(headers_of, make_job):
    known, job = operations(headers_of("admin")), make_job(status="queued")
    assert set(known) == set(TAKES) | REPORTS
    for scope in SCOPES:
        allowed = {
            name
            for name, (method, path) in known.items()
            if not is_too_narrow(method, re.sub(r"\{\w+\}", str(job.pk), path), headers_of(scope))
        }
        expected = {name for name, least in TAKES.items() if SCOPES.index(scope) >= SCOPES.index(least)}
        expected |= REPORTS if scope in {"report", "submit", "admin"} else set()
        assert allowed - {"make_token"} == expected - {"make_token"}, scope


def is_too_narrow(method: str, address: str, headers: dict[str, str]) -> bool:
    """An empty body makes nothing, so what is allowed is answered by whatever else is wrong with it."""
    options = {} if method == "get" else {"data": "[]", "content_type": "application/json"}
    answer = getattr(Client(), method)(address, headers=headers, **options)
    error = {} if answer.streaming or not answer.content else answer.json().get("error", {})
    return answer.status_code == 403 and "scope of this token" in error["message"]


@pytest.mark.parametrize(
    "row", [line.split() for line in VERBS.strip().splitlines()[1:]], ids=lambda row: row[0]
)
def test_each_verb_is_open_to_the_scopes_of_the_table(row, alice, make_job):
    verbs, (scope, *words) = VERBS.split()[:8], row
    actor, job = policy.bind_scope(alice, scope), make_job()
    assert [policy.may(actor, verb, job) for verb in verbs] == [word == "yes" for word in words]


def test_of_many_jobs_each_is_asked_only_what_the_scope_allows(alice, make_job):
    job = make_job(status="failed")
    body = {"verb": "restart", "ids": [job.pk]}
    answers = [
        Client().post(
            "/v1/training/jobs/bulk", body, content_type="application/json", headers=bearer(alice, one)
        )
        for one in ("act", "submit")
    ]
    refused, done = (answer.json()["results"][0] for answer in answers)
    assert (refused["error"]["code"], done["answer"]) == ("not_allowed", "noted")
    assert "use one with the scope submit or admin" in refused["error"]["message"]


def test_a_token_of_a_job_reports_for_it_alone_and_only_while_its_attempt_holds(alice):
    job, other = (services.begin_external(by=alice, job_name=name).job for name in ("one", "other"))
    headers = bearer(alice, "submit")

    def issued(number):
        answer = Client().post(f"{JOBS}/{number}/token", content_type="application/json", headers=headers)
        return answer.json()["token"]

    def report(number, value, step):
        body = {"rows": [{"step": step, "values": {"loss": 0.5}}]}
        about = {"content_type": "application/json", "headers": {"Authorization": f"Bearer {value}"}}
        return Client().post(f"{JOBS}/{number}/metrics", body, **about).status_code

    value = issued(job.pk)
    assert [report(one.pk, value, 1) for one in (job, other)] == [200, 404]
    assert Client().get(f"{JOBS}/{job.pk}", headers={"Authorization": f"Bearer {value}"}).status_code == 403
    assert look_up(Credential("token", value)) is None
    assert not tokens.tokens_of(alice).exclude(name__startswith="tests").exists()

    newer = issued(job.pk)
    assert [report(job.pk, one, 2) for one in (value, newer)] == [401, 200]
    services.end_external(job, by=alice, outcome="completed")
    assert report(job.pk, newer, 3) == 401
    kept = issued(other.pk)
    assert tokens.forget_job_tokens() == 1
    assert report(other.pk, kept, 1) == 200


def test_only_whoever_may_report_gets_a_token_for_it(alice, bob, mallory, make_job):
    job, ours = (
        services.begin_external(by=alice, job_name="x", team=bob.groups.get()).job,
        make_job(status="running"),
    )
    asked = [(bob, "admin", job), (mallory, "admin", job), (alice, "act", job), (alice, "submit", ours)]
    found = [
        Client()
        .post(f"{JOBS}/{one.pk}/token", content_type="application/json", headers=bearer(person, scope))
        .status_code
        for person, scope, one in asked
    ]
    assert found == [403, 404, 403, 409]


def test_a_token_is_made_listed_and_revoked_over_rest(alice, bob):
    url, headers = "/v1/tokens", bearer(alice, "admin")

    def make(**body):
        return Client().post(url, body, content_type="application/json", headers=headers)

    made = make(name="nightly", scope="act", days=7)
    assert (made.status_code, made["Cache-Control"]) == (201, "no-store")
    shown, value = made.json(), made.json()["token"]
    assert (shown["name"], shown["scope"], shown["has_expired"]) == ("nightly", "act", False)
    assert make(name="reader").json()["scope"] == "read"
    assert list(make(name="x", scope="report").json()["error"]["fields"]) == ["scope"]
    assert list(make(name="nightly").json()["error"]["fields"]) == ["name"]

    listed = Client().get(url, headers={"Authorization": f"Bearer {value}"}).json()["results"]
    assert {one["name"] for one in listed} == {"tests, admin", "nightly", "reader"}
    assert value not in str(listed)
    assert Client().delete(f"{url}/{shown['id']}", headers=bearer(bob)).status_code == 404
    assert Client().delete(f"{url}/{shown['id']}", headers=headers).status_code == 204
    assert tokens.person_with(value) is None
