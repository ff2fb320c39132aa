"""What queue messages name. They carry an integer and say only that there may be something to do."""

from training import runner
from training.worker import housekeeping


def supervise(number: int) -> None:
    """Take the best queued job from its claim to its landing, and the next, while there are any."""
    found = runner.run_jobs()
    if found is runner.Found.WORK:
        housekeeping.after_the_last_job()
    else:
        housekeeping.after_a_fruitless_wake_up(number, has_slot=found is runner.Found.NOTHING)


def housekeep(number: int) -> None:
    """Wake what waits, reap what is lost, and show that the cluster lives."""
    housekeeping.look_after_host(number)


def warm_up() -> None:
    """What a process of the cluster does before its first message."""
    runner.warm_up()
