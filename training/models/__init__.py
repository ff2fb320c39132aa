"""The rows that are the truth. Statuses, stops, attempts and checkpoint pointers are written by `services` alone.

jobs.py           jobs, and the tags that they are found by
attempts.py       each claim of a job by a supervisor, from claim to landing, and the slots of its ranks
checkpoints.py    one row a durable file
datasets.py       synthetic datasets and their shards
code.py           the code of programs, and who brought it
certificates.py   the chain of a job's states, replays, keys, public links
checks.py         whether scripts are resumed exactly, as checks have shown
history.py        events of jobs, and the deletions that outlast them
metrics.py        the values of each step, and blocks of steps folded together
resources.py      what a training uses of its machine, over time
output.py         what a training shows beside its metrics: the newest artifact, and what it printed
nodes.py          the hosts that jobs run on, and what happened to each
notifications.py  watches, subscriptions, and the outbox of messages
saved_views.py    lists of jobs that people gave names to
values.py         what jobs are filtered and sorted by beside their own columns: values of configs, and of metrics
layouts.py        how people arranged their pages
sweeps.py         searches over settings, and which job tries what
tokens.py         what programs log in with: of each the hash of its value
groups.py         groups that give a right and are no teams
answers.py        answers that are kept, so that a request sent twice is done once
installation.py   the one row of the installation itself

storages.py       where the files of checkpoints, datasets and code lie
choices.py        the choices of a field, from an enumeration of the lifecycle
"""

from training.models.answers import KEY_LENGTH, KeptAnswer
from training.models.attempts import WAIT_BUCKETS, Attempt, GangMember, HeldSlot
from training.models.certificates import CertificateKey, ChainLink, PublicCertificate, Replay
from training.models.checkpoints import Checkpoint
from training.models.checks import ExactnessCheck
from training.models.code import BroughtCode, CodeArchive
from training.models.datasets import Dataset, Shard
from training.models.groups import RightsGroup
from training.models.history import Deletion, Event
from training.models.installation import Installation
from training.models.jobs import JOB_ORDERS, Tag, TrainingJob
from training.models.layouts import PageLayout
from training.models.metrics import Metric, MetricBlock
from training.models.nodes import Node, NodeEvent
from training.models.notifications import Delivery, Subscription, Watch
from training.models.output import Artifact, LogChunk
from training.models.resources import ResourceSample
from training.models.saved_views import SavedView
from training.models.storages import checkpoint_storage, code_storage, dataset_storage
from training.models.sweeps import Sweep, SweepMember
from training.models.tokens import ApiToken
from training.models.values import ConfigValue, MetricValue

__all__ = [
    "JOB_ORDERS",
    "KEY_LENGTH",
    "WAIT_BUCKETS",
    "ApiToken",
    "Artifact",
    "Attempt",
    "BroughtCode",
    "CertificateKey",
    "ChainLink",
    "Checkpoint",
    "CodeArchive",
    "ConfigValue",
    "Dataset",
    "Deletion",
    "Delivery",
    "Event",
    "ExactnessCheck",
    "GangMember",
    "HeldSlot",
    "Installation",
    "KeptAnswer",
    "LogChunk",
    "Metric",
    "MetricBlock",
    "MetricValue",
    "Node",
    "NodeEvent",
    "PageLayout",
    "PublicCertificate",
    "Replay",
    "ResourceSample",
    "RightsGroup",
    "SavedView",
    "Shard",
    "Subscription",
    "Sweep",
    "SweepMember",
    "Tag",
    "TrainingJob",
    "Watch",
    "checkpoint_storage",
    "code_storage",
    "dataset_storage",
]
