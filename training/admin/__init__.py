"""The admin: jobs with their verbs, for one or many, and read-only history. It only translates; services decide.

base.py      rows that nobody may change       jobs.py      jobs, and their history below them
history.py   what became of jobs               datasets.py  datasets and their files
nodes.py     the hosts                         people.py    users, groups, tokens
queue.py     the messages of django-q2         dashboard.py  the admin's first page
submission.py  the forms that submit a job    sweeps.py     sweeps, steered as a whole
job_history.py what stands below a job         sidebar.py    the menu
"""

from training.admin import datasets, history, jobs, nodes, people, queue, sweeps

__all__ = ["datasets", "history", "jobs", "nodes", "people", "queue", "sweeps"]
