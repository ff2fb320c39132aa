"""Jobs of the type external: trained somewhere else, they report over REST, and nothing here claims or stops them."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from tests.support.tokens import bearer
from training import services
from training.models import Attempt, Delivery, LogChunk, Metric, TrainingJob

pytestmark = pytest.mark.django_db
JOBS = "/v1/training/jobs"


@pytest.fixture
def begun(api) -> int:
    body = {
        "job_name": "on a laptop",
        "config": {"lr": 0.1},
        "source": "anna's laptop",
        "total_epochs": 2,
        "tags": ["far"],
    }
    answer = api.post(f"{JOBS}/external", body, format="json")
    assert answer.status_code == 201, answer.json()
    return answer.json()["id"]


def report(api, job, **told):
    return api.post(f"{JOBS}/{job}/metrics", told, format="json")


def rows(first, last, epoch=1):
    return [
        {"step": step, "epoch": epoch, "values": {"loss": 1.0 / (step + 1)}}
        for step in range(first, last + 1)
    ]


def test_a_job_is_begun_reported_for_and_completed(api, begun):
    shown = api.get(f"{JOBS}/{begun}").json()
    assert (shown["job_type"], shown["status"], shown["recipe"], shown["promise"]) == (
        "external", "running", None, "none",
    )  # fmt: skip
    assert (shown["verbs"], shown["attempt"], shown["config"]) == (["cancel"], 1, {"lr": 0.1})
    closing = {"step": 4, "epoch": 1, "epoch_values": {"val_loss": 0.5, "val_rmse": 7.0}}
    answer = report(api, begun, rows=[*rows(1, 3), closing], log="epoch 1\n", phase="training", total_steps=8)
    assert answer.json() == {"status": "running", "taken": 4, "current_step": 4}
    report(api, begun, rows=[{"step": 8, "epoch": 2, "epoch_values": {"val_loss": 0.75}}], log="epoch 2\n")

    shown = api.get(f"{JOBS}/{begun}").json()
    seen = {name: shown[name] for name in ("current_epoch", "current_step", "total_steps", "train_loss")}
    assert seen == {"current_epoch": 2, "current_step": 8, "total_steps": 8, "train_loss": 0.25}
    assert (shown["best_epoch"], shown["best_val_loss"], shown["val_loss"]) == (1, 0.5, 0.75)
    assert [row["step"] for row in api.get(f"{JOBS}/{begun}/metrics").json()["results"]] == [1, 2, 3, 4, 8]
    epochs = api.get(f"{JOBS}/{begun}/metrics?per=epoch").json()["results"]
    assert [row["val_loss"] for row in epochs] == [0.5, 0.75]
    assert api.get(f"{JOBS}/{begun}/curve").json()["series"][0]["steps"]
    log = api.get(f"{JOBS}/{begun}/logs").json()["results"]
    assert "".join(piece["text"] for piece in log) == "epoch 1\nepoch 2\n"

    for word in ("done", "already"):
        ended = api.post(f"{JOBS}/{begun}/end", {"outcome": "completed"}, format="json")
        assert (ended.status_code, ended.json()["answer"], ended.json()["status"]) == (200, word, "completed")
    assert Attempt.objects.get(job=begun).outcome == "complete"
    refused = report(api, begun, rows=rows(9, 9))
    assert (refused.status_code, refused.json()["error"]["status"]) == (409, "completed")


def test_what_is_reported_again_is_taken_once_and_what_never_came_is_said(api, begun):
    for _ in range(2):
        report(api, begun, rows=rows(1, 3), log="one\n", log_begins_at=0)
    report(api, begun, rows=rows(2, 5), log="one\ntwo\n", log_begins_at=0)
    report(api, begun, rows=rows(6, 6), log="end\n", log_begins_at=100)
    assert list(Metric.objects.filter(job=begun).values_list("step", flat=True)) == [1, 2, 3, 4, 5, 6]
    text = "".join(LogChunk.objects.filter(job=begun).order_by("id").values_list("text", flat=True))
    assert text == "one\ntwo\n\n... 92 characters never came ...\nend\n"
    assert Attempt.objects.get(job=begun).steps_executed == 6
    closing = {"step": 6, "epoch": 1, "epoch_values": {"val_loss": 0.5}}
    for _ in range(2):  # the step's own values were reported before its epoch was closed
        assert report(api, begun, rows=[closing]).json()["taken"] == 0
    assert Metric.objects.get(job=begun, step=6).epoch_values == {"val_loss": 0.5}
    events = api.get(f"{JOBS}/{begun}/events").json()["results"]
    assert [event["kind"] for event in events] == ["submit", "epoch"]


def test_a_reporters_clock_moves_no_curve(api, begun):
    hour_ahead = timezone.now().timestamp() + 3600
    measured = [
        {"step": 1, "at": hour_ahead - 30, "values": {}},
        {"step": 2, "at": hour_ahead + 10, "values": {}},
    ]
    report(api, begun, rows=measured, sent_at=hour_ahead)
    ages = [
        (timezone.now() - row.created_at).total_seconds()
        for row in Metric.objects.filter(job=begun).order_by("step")
    ]
    assert ages[0] == pytest.approx(30, abs=5)
    assert 0 <= ages[1] < 5  # nothing was measured in the future


def test_a_failure_says_why_and_a_bad_loss_is_noted(api, begun):
    report(api, begun, rows=[{"step": 1, "values": {"loss": "nan"}}])
    ended = api.post(
        f"{JOBS}/{begun}/end", {"outcome": "failed", "message": "no GPU\nTraceback"}, format="json"
    )
    assert (ended.json()["error_code"], ended.json()["error_message"]) == (
        "reported_failure",
        "no GPU\nTraceback",
    )
    kinds = {event["kind"]: event["message"] for event in api.get(f"{JOBS}/{begun}/events").json()["results"]}
    assert kinds["fail"] == "Failed: no GPU"
    assert "not a number since step 1" in kinds["loss_not_finite"]


def test_a_cancelled_one_is_listened_to_no_longer_and_can_be_deleted(api, begun):
    cancelled = api.post(f"{JOBS}/{begun}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert "goes on where it is" in cancelled.json()["message"]
    assert report(api, begun, rows=rows(1, 1)).status_code == 409
    assert api.post(f"{JOBS}/{begun}/end", {"outcome": "completed"}, format="json").status_code == 409
    assert not Metric.objects.filter(job=begun).exists()
    assert api.delete(f"{JOBS}/{begun}").status_code == 204


@pytest.mark.parametrize("verb", ["pause", "resume", "restart", "discard"])
def test_what_only_a_worker_can_do_is_refused(api, begun, verb):
    answer = api.post(f"{JOBS}/{begun}/{verb}")
    assert answer.status_code == 409
    assert "trained somewhere else" in answer.json()["error"]["message"]


NOT_MADE = [("clone", {}, 400), ("fork", {}, 400), ("extend", {"epochs": 1}, 409), ("check", {}, 400)]


@pytest.mark.parametrize(("verb", "body", "status"), NOT_MADE)
def test_no_other_job_is_made_of_it(api, begun, verb, body, status):
    answer = api.post(f"{JOBS}/{begun}/{verb}", body, format="json")
    assert answer.status_code == status
    assert "somewhere else" in answer.json()["error"]["message"]


WHO = [("owner", 200), ("admin", 200), ("member", 403), ("viewer", 403), ("stranger", 404), ("nobody", 401)]


@pytest.mark.parametrize(("role", "status"), WHO)
def test_its_owner_and_administrators_report(
    make_job, client_of, alice, bob, viewer, mallory, admin_user, role, status
):
    people = {"owner": alice, "admin": admin_user, "member": bob, "viewer": viewer, "stranger": mallory}
    job = make_job(job_type="external")
    client = client_of(people.get(role))
    assert report(client, job.pk, rows=rows(1, 1)).status_code == status
    assert client.post(f"{JOBS}/{job.pk}/end", {"outcome": "failed"}, format="json").status_code == status
    assert Metric.objects.filter(job=job).exists() == (status == 200)


def test_nobody_reports_for_a_job_that_is_trained_here_or_with_a_token_that_reads(api, make_job, alice):
    answer = report(api, make_job(status="running").pk, rows=rows(1, 1))
    assert answer.status_code == 409
    assert "POST /v1/training/jobs/external" in answer.json()["error"]["message"]
    job = make_job(job_type="external")
    headers = bearer(alice, "read")
    sent = Client().post(f"{JOBS}/{job.pk}/metrics", {}, content_type="application/json", headers=headers)
    assert sent.status_code == 403


BAD = [
    ({"rows": [{"step": 2}, {"step": 2}]}, "rows.1.step"),
    ({"rows": [{"step": 1, "epoch": 2}, {"step": 2, "epoch": 1}]}, "rows.1.epoch"),
    ({"rows": [{"step": 0}]}, "rows.0.step"),
    ({"rows": [{"step": 1, "values": {"loss": "high"}}]}, "rows.0.values"),
    ({"rows": [{"step": 1, "values": {"step": 1}}]}, "rows.0.values"),
    ({"rows": [{"step": 1, "values": {f"m{n}": n for n in range(101)}}]}, "rows.0.values"),
    ({"rows": [{"step": 1, "value": {}}]}, "rows.0.value"),
    ({"rows": [{"step": 1}, None]}, "rows.1"),
    ({"rows": [{"step": 1, "values": {"loss": 10**400}}]}, "rows.0.values"),
    ({"rows": [{"step": step} for step in range(1, 502)]}, "rows"),
    ({"log": "x" * 262_145}, "log"),
    ({"metrics": []}, "metrics"),
]


@pytest.mark.parametrize(("told", "field"), BAD, ids=[field for _, field in BAD])
def test_a_report_that_makes_no_sense_is_refused_by_its_field(api, begun, told, field):
    answer = report(api, begun, **told)
    assert answer.status_code == 400
    assert any(name.startswith(field) for name in answer.json()["error"]["fields"]), answer.json()
    assert not Metric.objects.filter(job=begun).exists()


def test_a_large_report_fits_and_a_job_has_so_many_rows_at_most(api, begun, monkeypatch):
    large = [{"step": step, "values": {f"m{n}": 1.5 for n in range(60)}} for step in range(1, 501)]
    assert report(api, begun, rows=large).json()["taken"] == 500
    monkeypatch.setattr(services.external, "MOST_ROWS_OF_A_JOB", 501)
    assert report(api, begun, rows=rows(600, 601)).json()["error"]["code"] == "limit_reached"


def test_nobody_here_claims_or_reaps_it(begun, node):
    TrainingJob.objects.filter(pk=begun).update(heard_at=timezone.now() - timedelta(days=9))
    assert services.claim(node, slot=0, pid=1) is None
    assert services.expired_attempts() == []
    assert services.orphaned_attempts(node, lambda pid, started_at: False) == []
    assert TrainingJob.objects.get(pk=begun).status == "running"


@pytest.mark.parametrize(
    ("ago", "headline"),
    [
        (timedelta(minutes=9), "running"),
        (timedelta(minutes=61), "no report for 61 min"),
        (timedelta(hours=3), "no report for 3 h"),
        (timedelta(days=4), "no report for 4 days"),
    ],
)
def test_one_that_is_silent_says_since_when(api, begun, ago, headline):
    TrainingJob.objects.filter(pk=begun).update(heard_at=timezone.now() - ago)
    assert api.get(f"{JOBS}/{begun}").json()["headline"] == headline
    (listed,) = api.get(f"{JOBS}?job_type=external").json()["results"]
    assert listed["headline"] == headline


def test_pages_show_it_as_what_it_is(api, begun, alice, make_job):
    report(
        api,
        begun,
        rows=[*rows(1, 3), {"step": 4, "epoch": 1, "epoch_values": {"val_loss": 0.5}}],
        log="hello\n",
    )
    alice.is_staff = True
    alice.save()
    browser = Client()
    browser.force_login(alice)
    page = browser.get(f"/jobs/{begun}/").content.decode()
    assert all(words in page for words in ("trained elsewhere", "anna&#x27;s laptop", "Last report", "hello"))
    assert not any(words in page for words in ("Clone with changes", "A pause is", 'data-verb="pause"'))
    assert '<section class="card" aria-labelledby="curves-title">' in page  # and not hidden
    other = make_job(status="completed", step=2, epoch=1)
    addresses = ["/", "/queue/", "/nodes/", "/activity/", f"/compare/?jobs={begun},{other.pk}"]
    addresses += [f"/jobs/{begun}/cancel/", "/admin/", "/admin/training/trainingjob/"]
    for address in [*addresses, f"/admin/training/trainingjob/{begun}/change/"]:
        assert browser.get(address).status_code == 200, address
    assert "Nothing more is taken from it" in browser.get(f"/jobs/{begun}/cancel/").content.decode()
    assert browser.get(f"/jobs/new/?from={begun}").status_code == 404


def test_its_end_is_told_to_those_who_subscribed(api, begun, alice, every_name_is_public):
    services.subscribe(by=alice, via="webhook", target="https://example.org/hook", topics=["completed"])
    api.post(f"{JOBS}/{begun}/end", {"outcome": "completed"}, format="json")
    assert Delivery.objects.get().topic == "completed"


def test_a_job_is_begun_once_for_a_key_and_within_ones_bounds(api, settings):
    key = {"HTTP_IDEMPOTENCY_KEY": "again"}
    made = [
        api.post(f"{JOBS}/external", {"job_name": "one"}, format="json", **key).json()["id"] for _ in "ab"
    ]
    assert made[0] == made[1]
    settings.MAX_UNFINISHED_JOBS = 1
    refused = api.post(f"{JOBS}/external", {"job_name": "two"}, format="json")
    assert refused.json()["error"]["code"] == "limit_reached"
