"""The admin: jobs with their verbs, for one or many, and read-only history. It only translates; services decide."""

from training.admin import datasets, history, jobs, nodes, people, queue

__all__ = ["datasets", "history", "jobs", "nodes", "people", "queue"]
