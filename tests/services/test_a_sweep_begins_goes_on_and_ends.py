"""A sweep decides from its rows alone: whoever decides twice, or crashes in between, starts nothing twice."""

from __future__ import annotations

import pytest

from heimdall import failpoints
from heimdall.errors import InvalidInput
from tests.conftest import give_checkpoint, put
from training import services
from training.errors import NotAllowed, NotFound, TransitionRefused
from training.models import Metric, Sweep, SweepMember, TrainingJob
from training.queries.sweeps import leaders, saved_by_pausing
from training.scheduling.sweeps import advance, advance_sweeps

pytestmark = pytest.mark.django_db
GRID = {"learning_rate": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "optimizer": ["adamw"]}


@pytest.fixture
def begin(alice):
    def make(**wanted) -> Sweep:
        plan = {"suggester": "grid", "stopper": "asha", "eta": 3, "at_once": 3} | wanted.pop("plan", {})
        given = {
            "by": alice,
            "name": "rates",
            "recipe": "tiny",
            "config": {"epochs": 9},
            "space": GRID,
            "plan": plan,
        }
        return services.submit_sweep(**(given | wanted))

    return make


def jobs(sweep: Sweep) -> list[TrainingJob]:
    return [member.job for member in SweepMember.objects.filter(sweep=sweep).select_related("job")]


def reach(job: TrainingJob, epoch: int, value: float, status: str = "paused") -> None:
    """What a worker would have left: the epoch's row, a checkpoint, and the job where its trainer stopped."""
    Metric.objects.create(
        job=job, step=epoch * 2, epoch=epoch, attempt=1, values={}, epoch_values={"val_loss": value}
    )
    TrainingJob.objects.filter(pk=job.pk).update(current_epoch=epoch, current_step=epoch * 2)
    job.refresh_from_db()
    give_checkpoint(job, step=epoch * 2, epoch=epoch)
    put(job, status)
    job.refresh_from_db()


def test_as_many_jobs_are_queued_as_may_be_at_once_and_each_has_its_settings(begin, alice):
    sweep = begin()
    assert advance_sweeps() == 3
    made = jobs(sweep)
    assert [job.config["learning_rate"] for job in made] == [0.1, 0.2, 0.3]
    assert {(job.status, job.owner, job.config["epochs"]) for job in made} == {("queued", alice, 9)}
    assert made[0].job_name == "rates 1"
    assert advance(sweep) == 0  # there is no room


def test_losers_rest_the_best_goes_on_and_a_loser_that_turns_out_well_goes_on_later(begin):
    sweep = begin()
    advance(sweep)
    first = jobs(sweep)
    assert services.next_rung_of(first[0]) == 1
    for job, value in zip(first, (3.0, 1.0, 2.0), strict=True):
        reach(job, 1, value)
    assert advance(sweep) == 3  # the best, and two that are new
    states = [job.status for job in jobs(sweep)]
    assert states == ["paused", "queued", "paused", "queued", "queued"]
    best = jobs(sweep)[1]
    assert services.next_rung_of(best) == 3
    reach(best, 3, 0.9)
    for job in jobs(sweep)[3:]:
        reach(job, 1, 5.0)
    advance(sweep)
    reach(jobs(sweep)[5], 1, 6.0)
    advance(sweep)
    assert jobs(sweep)[2].status == "queued"  # of six it is the second now
    assert saved_by_pausing(sweep) == {"epochs_trained": 8, "epochs_of_all": 54, "share": 8 / 54}


def test_it_is_over_when_nothing_trains_and_nothing_is_left_to_try(begin, bob):
    sweep = begin(plan={"stopper": "none", "at_once": 6})
    assert advance(sweep) == 6
    for job in jobs(sweep):
        assert services.next_rung_of(job) is None
    for number, job in enumerate(jobs(sweep)):
        reach(job, 9, float(number), status="completed" if number else "failed")
    assert advance(sweep) == 0
    sweep.refresh_from_db()
    assert (sweep.state, sweep.ended_at is not None) == ("finished", True)
    assert [row["number"] for row in leaders(sweep, sweep.owner)][:2] == [0, 1]
    assert leaders(sweep, bob)[0]["jobs"] == []  # whoever may not see a job has no number of it


def test_seeds_are_repeated_and_their_mean_and_spread_are_told(begin):
    sweep = begin(plan={"stopper": "none", "repeats": 3, "jobs": 2, "at_once": 9})
    advance(sweep)
    made = jobs(sweep)
    assert [job.config["seed"] for job in made] == [0, 1, 2, 0, 1, 2]
    for job, value in zip(made[:3], (1.0, 2.0, 3.0), strict=True):
        reach(job, 9, value, status="completed")
    best = leaders(sweep, sweep.owner)[0]
    assert (best["number"], best["value"], best["spread"]) == (0, 2.0, 1.0)


@pytest.mark.parametrize("point", ["sweep_asks", "sweep_starts"])
def test_a_crash_while_it_decides_loses_and_doubles_nothing(begin, monkeypatch, point):
    sweep = begin()

    class Crash(BaseException):
        pass

    def dies(name: str) -> None:
        if name == point:
            raise Crash

    monkeypatch.setattr("training.scheduling.sweeps.failpoint", dies)
    with pytest.raises(Crash):
        advance(sweep)
    monkeypatch.setattr("training.scheduling.sweeps.failpoint", failpoints.failpoint)
    assert advance(sweep) == 3
    assert [(m.number, m.repeat) for m in sweep.members.all()] == [(0, 0), (1, 0), (2, 0)]


def test_who_decides_a_second_time_makes_no_second_job(begin):
    sweep = begin()
    assert services.add_member(sweep, number=0, repeat=0, params={"learning_rate": 0.1, "optimizer": "adamw"})
    assert (
        services.add_member(sweep, number=0, repeat=0, params={"learning_rate": 0.1, "optimizer": "adamw"})
        is None
    )
    assert TrainingJob.objects.count() == 1


def test_one_host_decides_at_a_time(begin):
    sweep = begin()
    assert services.hold_sweep(sweep)
    assert not services.hold_sweep(sweep)
    assert advance(sweep) == 0
    services.let_go_of_sweep(sweep)
    assert advance(sweep) == 3


def test_a_sweep_pauses_resumes_is_extended_and_cancelled_as_a_whole(begin):
    sweep = begin(plan={"jobs": 3})
    advance(sweep)
    services.pause_sweep(sweep, by=sweep.owner)
    assert {job.status for job in jobs(sweep)} == {"paused"}
    assert advance_sweeps() == 0
    services.resume_sweep(sweep, by=sweep.owner)
    assert advance_sweeps() == 3
    assert {job.status for job in jobs(sweep)} == {"queued"}
    services.extend_sweep(sweep, jobs=2, by=sweep.owner)
    assert sweep.plan["jobs"] == 5
    with pytest.raises(InvalidInput, match="The grid has 6"):
        services.extend_sweep(sweep, jobs=2, by=sweep.owner)
    services.cancel_sweep(sweep, by=sweep.owner)
    assert {job.status for job in jobs(sweep)} == {"cancelled"}
    with pytest.raises(TransitionRefused, match="cancelled: resume is not possible"):
        services.resume_sweep(sweep, by=sweep.owner)
    services.delete_sweep(sweep, by=sweep.owner)
    assert TrainingJob.objects.count() == 3


def test_who_may_what(begin, alice, bob, viewer, mallory, team):
    """Alice's sweep in a team of Bob's: as with jobs."""
    sweep = begin(team=team)
    expected = {alice: {"pause", "cancel", "extend"}, bob: {"pause", "cancel"}, viewer: set()}
    for user, verbs in expected.items():
        assert set(services.verbs_of_sweep(services.sweep_named(sweep.pk, by=user), user)) == verbs
    with pytest.raises(NotFound):
        services.sweep_named(sweep.pk, by=mallory)
    with pytest.raises(NotAllowed):
        services.extend_sweep(sweep, jobs=1, by=bob)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        ({"space": {"learning_rate": [0.1, -1.0]}}, "space.learning_rate"),
        ({"space": {"no_such": [1]}}, "space.no_such"),
        ({"config": {"epochs": 0}}, "config.epochs"),
        ({"space": {"epochs": [1, 2]}}, "space.epochs"),
        ({"recipe": ""}, "recipe"),
        ({"recipe": "shards", "space": {"samples": [1, 2]}}, "recipe"),
        ({"name": ""}, "name"),
    ],
)
def test_what_can_be_known_before_anything_is_queued_is_known_then(begin, wanted, field):
    with pytest.raises(InvalidInput) as refused:
        begin(**wanted)
    assert field in refused.value.fields
    assert not Sweep.objects.exists()


def test_a_full_queue_makes_it_wait_with_a_sentence(begin, settings):
    settings.MAX_UNFINISHED_JOBS = 2
    sweep = begin()
    advance(sweep)
    sweep.refresh_from_db()
    assert len(jobs(sweep)) == 2
    assert "HEIMDALL_MAX_UNFINISHED_JOBS" in sweep.trouble
    assert sweep.state == "running"


def test_a_running_sweep_with_no_room_costs_two_queries(begin, django_assert_max_num_queries):
    advance(begin())
    with django_assert_max_num_queries(3):
        advance_sweeps()
