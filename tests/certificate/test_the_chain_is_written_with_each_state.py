"""Each state of a job becomes a link, in the transaction that it belongs to, and the certificate says what it saw."""

import json

import pytest
from django.test import Client

from heimdall.certificate.keys import public_keys_in
from heimdall.certificate.verdict import verify_certificate
from heimdall.errors import InvalidInput
from heimdall.trainer.protocol import Started, StateHashed
from tests.support.certificates import digest, without_times
from tests.support.stored import stored_checkpoint
from tests.support.tokens import bearer
from training import queries, services
from training.errors import NotAllowed, NotFound
from training.models import ChainLink, Checkpoint, Replay, TrainingJob

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("each_database")]

ENVIRONMENT = {
    "device": "cpu", "torch": "2.13.0", "threads": 1, "recipe_digest": "c" * 64, "data_fingerprint": "f" * 64,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _own_key(settings, tmp_path):
    settings.SIGNING_KEY_FILE = tmp_path / "signing-key.pem"


@pytest.fixture
def job(alice):
    return services.submit(by=alice, job_name="first", recipe="tiny", config={}).job


def begun(job, node):
    attempt = services.claim(node, slot=0, pid=1, job_id=job.pk)
    start = attempt.started_from
    services.note_started(attempt, Started(start.step if start else 0, 0, 100, environment=ENVIRONMENT))
    return attempt


def stored(attempt, step, came_from=("", 0), kinds=("periodic",)):
    state = digest("state", step)
    facts = {"digest": state, "came_from": came_from[0], "came_from_step": came_from[1], "samples": step * 8}
    name = f"jobs/{attempt.job_id}/a{attempt.number}/s{step}"
    services.record_checkpoint(
        attempt, stored_checkpoint(name, step=step, epoch=step // 8, kinds=kinds, **facts)
    )
    return state, step


def hashed(attempt, step, came_from):
    state = StateHashed(step, step // 8, digest("state", step), *came_from, samples=step * 8)
    services.beat(attempt, services.Report(hashed=[state]))
    return state.digest, step


def trained(job, node):
    """Stored at 4, hashed at 8, stored at 12; rolled back to 12 from a hash at 16; and on to the end at 20."""
    attempt = begun(job, node)
    place = stored(attempt, 4)
    place = hashed(attempt, 8, place)
    place = stored(attempt, 12, place)
    hashed(attempt, 16, place)
    services.crash(attempt, exit_code=-9, detail="killed")
    attempt = begun(job, node)
    stored(attempt, 20, place, kinds=("final",))
    services.complete(attempt, None)
    job.refresh_from_db()
    return job


def statement(job):
    found = verify_certificate(services.certificate(job), keys=[services.signing_key().public])
    return found, found.statement["predicate"]


def test_links_name_what_they_came_from_and_everything_that_they_stand_on(job, node):
    found, predicate = statement(trained(job, node))
    assert [(one.about, one.sentence) for one in found.answers if not one.is_good] == []
    links = predicate["chain"]
    assert [one["step"] for one in links] == [4, 8, 12, 16, 20]
    assert [one["came_from_step"] for one in links] == [0, 4, 8, 12, 12]
    assert [bool(one["header_sha256"]) for one in links] == [True, False, True, False, True]
    assert [one["attempt"] for one in links] == [1, 1, 1, 1, 2]
    assert {(one["code"], one["data"]) for one in links} == {("c" * 64, "f" * 64)}
    assert predicate["line"] == [1, 2, 3, 5]
    assert [(one["kind"], one["number"]) for one in predicate["findings"]] == [("rollback", 4)]
    assert predicate["summary"] | {"state": ""} == {
        "state": "", "links": 5, "stretches": 4, "stretches_replayed": 0, "steps": 20, "steps_replayed": 0,
        "attempts": 2, "interruptions": 1, "is_complete": True,
    }  # fmt: skip


def test_a_report_that_is_sent_twice_makes_one_link(job, node):
    attempt = begun(job, node)
    hashed(attempt, 8, ("", 0)), hashed(attempt, 8, ("", 0))
    assert ChainLink.objects.filter(job=job).count() == 1


def test_the_chain_outlives_the_files_and_the_certificate_is_the_same_each_time(job, node):
    trained(job, node)
    first = services.certificate(job)
    assert without_times(first) == without_times(services.certificate(job))
    Checkpoint.objects.filter(job=job, step=4).delete()
    found, predicate = statement(job)
    assert predicate["summary"]["is_complete"]
    assert [one["name"].split("-")[2] for one in found.statement["subject"]] == ["12", "20"]


@pytest.mark.parametrize(
    ("number", "changes"),
    [
        (2, {"step": 9}),
        (3, {"digest": "0" * 64}),
        (5, {"came_from": "0" * 64}),
        (1, {"samples": 31}),
        (2, {"environment": "0" * 64}),
        (4, {"number": 9}),
        (3, {"attempt": 2}),
        (2, None),
    ],
)
def test_a_row_that_was_changed_or_taken_out_is_noticed(job, node, number, changes):
    trained(job, node)
    row = ChainLink.objects.filter(job=job, number=number)
    assert row.update(**changes) if changes else row.delete()
    found, _ = statement(job)
    assert not found.is_good


def test_an_attempt_that_was_taken_out_is_noticed(job, node):
    trained(job, node).attempts.filter(number=1).delete()
    found, _ = statement(job)
    assert "An attempt is left out" in " ".join(one.sentence for one in found.answers)


def test_a_fork_begins_with_a_state_that_was_brought(job, node, alice):
    trained(job, node)
    child = services.clone(job, by=alice).job
    start = Checkpoint.objects.create(
        job=child, attempt=0, step=12, epoch=1, kinds=["start"], file="jobs/forked/s12", size=5,
        digest=digest("state", 12), header_sha256="b" * 64,
    )  # fmt: skip
    services.chain.add_brought(child, start)
    TrainingJob.objects.filter(pk=child.pk).update(latest_checkpoint=start, checkpoints_stored=1)
    child.refresh_from_db()
    _, predicate = statement(child)
    assert (predicate["findings"][0]["kind"], predicate["summary"]["is_complete"]) == ("origin", True)


def test_a_job_without_a_state_has_no_certificate(job):
    with pytest.raises(NotFound):
        services.certificate(job)


def test_the_key_is_its_owners_alone_and_what_an_old_one_signed_stays_signed(job, node, settings, client):
    before = services.certificate(trained(job, node))
    assert settings.SIGNING_KEY_FILE.stat().st_mode & 0o777 == 0o600
    old = services.signing_key()
    new = services.rotate_signing_key()
    assert (old.key_id != new.key_id, services.signing_key().key_id) == (True, new.key_id)
    page = client.get("/.well-known/heimdall-keys.json")  # nobody is logged in
    keys = public_keys_in(page.content.decode())
    assert set(keys) == {old.public, new.public}
    assert [bool(one["retired_at"]) for one in page.json()["keys"]] == [False, True]
    for document in (before, services.certificate(job)):
        assert verify_certificate(document, keys=keys).is_good


# Replays.


def finish(replay, outcome="equal", **found):
    points = [one | {"found": one["recorded"] if outcome == "equal" else "0" * 64} for one in replay.points]
    services.finish_replay(replay, state=outcome, points=points, steps_compared=4, seconds=1.0, **found)


def test_stretches_begin_where_a_state_is_kept_and_come_past_all_links_until_the_next(job, node):
    trained(job, node)
    found = [(one.from_step, [link.step for link in one.links]) for one in services.segments(job)]
    assert found == [(0, [4]), (4, [8, 12]), (12, [20])]
    Checkpoint.objects.filter(job=job, step=4).delete()
    found = [(one.from_step, [link.step for link in one.links]) for one in services.segments(job)]
    assert found == [(0, [4, 8, 12]), (12, [20])]


def test_stretches_that_are_asked_for_twice_with_one_key_are_planned_once(job, node, alice):
    trained(job, node)

    def ask(key):
        headers = bearer(alice) | {"Idempotency-Key": key}
        url = f"/v1/training/jobs/{job.pk}/verify"
        return Client().post(url, {"stretches": 2}, content_type="application/json", headers=headers)

    first, second, other = ask("one"), ask("one"), ask("two")
    assert (first.status_code, second.status_code, other.status_code) == (202, 202, 400)
    assert second.json() == first.json()
    assert Replay.objects.count() == len(first.json()["replays"]) == 2


def test_the_state_that_a_replay_begins_with_is_kept_until_it_is_over(job, node, alice):
    job.config["keep_last"] = job.config["keep_best"] = 1
    job.save(update_fields=["config"])
    services.verify(trained(job, node), by=alice)
    assert services.retire_checkpoints(job) == 0
    for begins_at, retired in ((0, 0), (4, 1), (12, 1)):
        replay = services.claim_replay(node, 0)
        assert replay.from_step == begins_at == (replay.start.step if replay.start else 0)
        finish(replay)
        assert services.retire_checkpoints(job) == retired
    assert [one.step for one in Checkpoint.objects.filter(job=job)] == [20]


def test_what_was_replayed_is_counted_on_every_door(job, node, alice):
    trained(job, node)
    made = services.verify(job, by=alice)
    assert [(one.from_step, one.to_step) for one in made] == [(0, 4), (4, 12), (12, 20)]
    assert queries.evidence(job) == "not shown"
    with pytest.raises(InvalidInput, match="wait to be trained again already"):
        services.verify(job, by=alice)
    for _ in range(2):
        finish(services.claim_replay(node, 0))
    job.refresh_from_db()
    found, predicate = statement(job)
    assert found.is_good
    assert (queries.evidence(job), predicate["summary"]["state"]) == ("replayed", "replayed")
    assert "12 of 20 steps (3 of 4 stretches)" in queries.evidence_words(job)
    client = Client()
    client.force_login(alice)
    page = client.get(f"/jobs/{job.pk}/").content.decode()
    assert "12 of 20 steps" in page
    badge = client.get(f"/jobs/{job.pk}/badge.svg").content.decode()
    assert "replayed 60 %" in badge
    shown = client.get(f"/v1/training/jobs/{job.pk}").json()
    assert shown["evidence"] == "replayed"
    assert client.get(f"/v1/training/jobs/{job.pk}/certificate").content == services.certificate(job)
    listed = client.get(f"/v1/training/jobs/{job.pk}/replays").json()["results"]
    assert [one["state"] for one in listed] == ["waiting", "equal", "equal"]


def test_a_difference_marks_the_job_and_touches_nothing_else(job, node, alice):
    trained(job, node)
    before = {
        name: getattr(job, name) for name in ("status", "current_step", "latest_checkpoint_id", "attempt")
    }
    services.verify(job, by=alice)
    finish(
        services.claim_replay(node, 0), "differs", reason="The source is another than it was.", first_step=2
    )
    job.refresh_from_db()
    assert queries.evidence(job) == "differs"
    assert {name: getattr(job, name) for name in before} == before
    event = job.events.order_by("-seq").first()
    assert (event.kind, "The source is another" in event.message) == ("verify_differs", True)
    assert not statement(job)[0].is_good


def test_a_result_that_nobody_found_counts_nothing(job, node, alice):
    trained(job, node)
    replay = services.verify(job, by=alice)[0]
    points = [one | {"found": one["recorded"]} for one in replay.points]
    Replay.objects.filter(pk=replay.pk).update(
        state="equal", points=points, finished_at="2026-01-01T00:00:00Z"
    )
    assert statement(job)[1]["replays"] == []
    client = Client()
    client.force_login(alice)
    assert "1 of its replays claim a result that no worker" in client.get(f"/jobs/{job.pk}/").content.decode()


def test_a_replay_that_was_given_back_or_lost_is_taken_again_and_its_first_worker_is_fenced_out(
    job, node, alice
):
    trained(job, node)
    services.verify(job, by=alice, stretches=1)
    first = services.claim_replay(node, 0)
    assert services.claim_replay(node, 0) is None
    services.give_replay_back(first)
    second = services.claim_replay(node, 0)
    assert (second.pk, second.tries) == (first.pk, 1)
    Replay.objects.filter(pk=second.pk).update(lease_expires_at="2020-01-01T00:00:00Z")
    third = services.claim_replay(node, 0)
    assert (third.pk, third.tries) == (first.pk, 2)
    assert not services.keep_replay(second)
    finish(second)
    assert Replay.objects.get().state == "running"
    finish(third)
    assert Replay.objects.get().state == "equal"


def test_a_restart_begins_a_new_generation_of_which_nothing_is_known(job, node, alice):
    attempt = begun(job, node)
    stored(attempt, 4)
    services.fail(attempt, code="recipe_error", message="no")
    job.refresh_from_db()
    services.verify(job, by=alice)
    finish(services.claim_replay(node, 0))
    job.refresh_from_db()
    assert queries.evidence(job) == "replayed"
    services.restart(job, by=alice)
    job.refresh_from_db()
    assert queries.evidence(job) == "not shown"
    with pytest.raises(InvalidInput, match="no state yet"):
        services.verify(job, by=alice)


def test_a_share_of_the_stretches_is_planned_at_the_end_where_that_is_wished(job, node, settings):
    settings.REPLAY_PERCENT = 100
    trained(job, node)
    assert [(one.to_step, one.is_automatic) for one in Replay.objects.all()] == [
        (4, True),
        (12, True),
        (20, True),
    ]


def test_the_owner_alone_has_it_verified_and_made_public(job, node, alice, viewer, mallory, client):
    trained(job, node)
    for stranger, error in ((viewer, NotAllowed), (mallory, NotFound)):
        for verb in (services.verify, services.publish, services.unpublish):
            with pytest.raises(error):
                verb(job, by=stranger)
    token = services.publish(job, by=alice).token
    assert services.publish(job, by=alice).token == token
    assert json.loads(client.get(f"/certificates/{token}.json").content)["payloadType"]
    assert client.get(f"/certificates/{token}.svg")["Content-Type"] == "image/svg+xml"
    services.unpublish(job, by=alice)
    assert client.get(f"/certificates/{token}.json").status_code == 404
