"""One attempt, from its claim to its landing: the only package that knows both the database's side and the trainer's.

slots.py          a process that was woken: it takes a free slot of the host, claims the best job, and the next
context.py        what the parts below share of one attempt
attempt.py        an attempt from its claim on: the checkpoint it starts from, its data, its trainer, its failures
environments.py   the Python that a program runs in: named, or built by uv
start.py          how trainers are started here, and what one is told
loop.py           while there is a trainer: the loop's five steps, between the trainer, the store and the database
endings.py        the ends of an attempt that had a trainer
report_buffer.py  what the trainer said and the database does not know yet
replaying.py      what an idle slot does: a stretch of a training is trained again, until a job comes
secret_mask.py    hides a program's secrets in what its trainer prints
log_limit.py      how much of what a trainer prints is kept
storing.py        staged files on their way into the store
database_retry.py retries with backoff while the database is away, within the grace period of a drain

The trainer never waits for the database or the store: its messages are drained by a thread, files are stored by
another, and a loop joins the two worlds a few times a second. Nothing here imports torch.
"""

from training.runner.slots import Found, run_jobs
from training.runner.start import use_zygote, warm_up

__all__ = ["Found", "run_jobs", "use_zygote", "warm_up"]
