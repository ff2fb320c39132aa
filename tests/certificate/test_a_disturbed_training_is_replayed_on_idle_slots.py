"""Live processes: a disturbed training is trained again as a whole, and a job that comes has the slot at once."""

import time

import pytest

from tests.certificate.certify import Certifying, every_replay, replayed, verified
from tests.support.running import PATIENCE, running

pytestmark = pytest.mark.processes


def test_a_disturbed_training_has_a_complete_certificate_and_a_job_comes_before_its_replays(tmp_path):
    """In short what `make certify COUNT=50` does at length: a trainer is killed, a pause, a supervisor is killed."""
    with running(tmp_path, HEIMDALL_HASH_SECONDS="0.2") as site:
        job = Certifying(site, count=3, seed=7).run()
        assert {one["state"] for one in replayed(site, job)} == {"equal"}
        verdict = verified(site, job)
        summary = verdict.statement["predicate"]["summary"]
        assert [one.sentence for one in verdict.answers if not one.is_good] == []
        assert (summary["state"], summary["steps_replayed"]) == ("replayed", summary["steps"])
        assert summary["interruptions"] >= 3
        links = verdict.statement["predicate"]["chain"]
        assert [one["samples"] for one in links if one["step"] % 5 == 0][:1] == [144]

        site.post(f"/jobs/{job}/verify")
        site.wait_until(lambda: site.named("replay of job"), seconds=20)
        asked = time.monotonic()
        other = site.submit(epochs=1)
        site.wait_for(other, lambda seen: seen["attempt"] == 1, seconds=20)
        assert time.monotonic() - asked < 2.0 * PATIENCE
        site.wait_for_status(other, "completed")
        # What was dropped is done afterwards, and does not count as a try that failed.
        found = every_replay(site, job)
        assert {(one["state"], one["reason"]) for one in found} == {("equal", "")}
