"""`make prove` on a server whose slots would run both of its jobs at once."""

from __future__ import annotations

import pytest

from tests.support.running import PATIENCE, running

pytestmark = pytest.mark.processes


@pytest.mark.parametrize("slots", [3])
def test_the_proof_holds_with_any_number_of_slots(slots, tmp_path):
    with running(tmp_path, HEIMDALL_SLOTS=str(slots)) as site:
        proof = site.start("prove")
        assert proof.wait(timeout=200 * PATIENCE) == 0, site.log
        assert "PROVEN: the paused and resumed job ended bit-identical" in site.log
        assert site.log.count("Job 2 was paused") == 2
        for part in (
            "random generators",
            "learning rate schedule",
            "optimizer's state",
            "position in the data",
        ):
            assert f"without the {part}: noticed" in site.log
