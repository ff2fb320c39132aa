"""Every variable of the environment that Heimdall reads: what it is, and its default.

`env` reads no other, and none with another default. docs/settings.md and deploy/.env.example are written from here
(`make settings`), so a new setting is one line in its group below and one line where it is read.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variable:
    """`default` is a value as one would write it; None where it depends, and then `otherwise` says on what.

    `deployed` is the value in deploy/.env.example, where that is not the default.
    """

    name: str
    default: str | None
    what: str
    otherwise: str = ""
    deployed: str = ""


@dataclass(frozen=True)
class Group:
    title: str
    variables: tuple[Variable, ...]


V = Variable

PEOPLE = Group(
    "What one person may ask for and keep",
    (
        V(
            "HEIMDALL_MAX_PRIORITY",
            "10",
            "the highest priority that a job gets without the permission `urgent_priority`",
        ),
        V(
            "HEIMDALL_MAX_UNFINISHED_JOBS",
            "200",
            "jobs of one person that may be queued or running; administrators have no bound",
        ),
        V(
            "HEIMDALL_MIN_CHECKPOINT_SECONDS",
            "10",
            "the least that `checkpoint_every_minutes` may come to",
        ),
        V(
            "HEIMDALL_MAX_CHECKPOINT_GB_PER_JOB",
            "500",
            "gigabytes of checkpoints that one job keeps, whatever its `keep_last` says; the newest always stays",
        ),
        V(
            "HEIMDALL_MAX_CHECKPOINT_GB_PER_PERSON",
            "2000",
            "gigabytes of checkpoints of all jobs of one person, beyond which only pauses and ends are stored; "
            "code of programs counts, too",
        ),
        V(
            "HEIMDALL_MIN_FREE_DISK_GB",
            "1",
            "gigabytes that stay free in the folder of checkpoints: below, only pauses and ends are stored, and "
            "`/readyz` says so",
        ),
    ),
)

WEB = Group(
    "The web server",
    (
        V("HEIMDALL_HOST", "127.0.0.1", "the address at which the web server listens"),
        V("HEIMDALL_PORT", "8000", "the port at which it listens"),
        V(
            "HEIMDALL_ALLOWED_HOSTS",
            "127.0.0.1,localhost,[::1]",
            "names under which the server may be called",
            deployed="gpu.example.org,127.0.0.1",
        ),
        V(
            "HEIMDALL_TRUSTED_ORIGINS",
            "",
            "other origins whose forms are accepted, such as `https://gpu.example.org`",
            deployed="https://gpu.example.org",
        ),
        V(
            "HEIMDALL_HTTPS",
            "0",
            "`1` behind a proxy that speaks TLS: secure cookies, redirects, HSTS",
            deployed="1",
        ),
        V(
            "HEIMDALL_TRUSTED_PROXIES",
            None,
            "addresses and networks of your proxies, separated by commas: their `X-Forwarded-For` says who tries "
            "passwords, anybody else's counts nothing",
            otherwise="`127.0.0.1,::1` with `HEIMDALL_HTTPS=1`, else nobody",
        ),
        V(
            "HEIMDALL_URL",
            None,
            "what people call the server by: links in messages begin with it; with a path, as in "
            "`https://lab.example.org/heimdall`, Heimdall is served below that path",
            otherwise="`http://`, host and port",
            deployed="https://gpu.example.org",
        ),
        V(
            "HEIMDALL_SECRET_KEY",
            "",
            "Django's secret key",
            otherwise="made once, kept in the data folder",
        ),
        V(
            "HEIMDALL_SIGNING_KEY_FILE",
            "",
            "the private key that certificates are signed with, the same on all web servers",
            otherwise="`signing-key.pem` in the data folder, made at the first start",
        ),
        V("HEIMDALL_DEBUG", "0", "Django's debug pages; never where others can reach the server"),
        V("HEIMDALL_VERB_RATE", "600/min", "how often one user may change and submit jobs"),
        V("HEIMDALL_LOGIN_RATE", "20/min", "how many passwords may be tried from one address"),
        V(
            "HEIMDALL_MAX_CONNECTIONS",
            "2000",
            "connections that one web server keeps open, those of pages' sockets too",
        ),
        V(
            "HEIMDALL_MAX_CONNECTIONS_PER_ADDRESS",
            "200",
            "how many of them one address may have; behind trusted proxies, how many one client",
        ),
        V("HEIMDALL_HEADER_SECONDS", "10", "how long the header of a request may take to come"),
        V(
            "HEIMDALL_BODY_SECONDS",
            "60",
            "how long its body may take, and how long a client may take nothing of its answer",
        ),
        V(
            "HEIMDALL_MAX_JOB_MEMORY_GB",
            "",
            "a config whose recipe estimates more than this is refused; say it where the workers' machines have more",
            otherwise="memory of the web server's machine or its largest GPU",
        ),
        V(
            "HEIMDALL_TIME_ZONE",
            "UTC",
            "of days in filters, and of pages for readers whose browser does not say",
        ),
        V(
            "HEIMDALL_STATIC_ROOT",
            None,
            "where `collectstatic` puts files",
            otherwise="`static/` in the data folder",
        ),
    ),
)

STORE = Group(
    "Database and store",
    (
        V(
            "HEIMDALL_DATA_DIR",
            None,
            "the folder where everything is kept",
            otherwise="`var/` in the checkout; where Heimdall is installed, in the folder it is started in",
            deployed="/var/lib/heimdall",
        ),
        V(
            "DATABASE_URL",
            None,
            "the database: `sqlite:////path/to/file`, or `postgres://user:password@host:5432/name` with libpq's "
            "options behind a `?`; see [PostgreSQL](operations.md#postgresql)",
            otherwise="SQLite in the data folder",
        ),
        V(
            "HEIMDALL_LISTEN_URL",
            "",
            "PostgreSQL: the address of the server itself, where `DATABASE_URL` leads through a pooler of "
            "transactions; see [PostgreSQL](operations.md#postgresql)",
        ),
        V(
            "HEIMDALL_WEB_CONNECTIONS",
            "10",
            "PostgreSQL: connections that a web server opens at most, beside the one that listens",
        ),
        V(
            "HEIMDALL_STATEMENT_SECONDS",
            "60",
            "PostgreSQL: how long a statement of the web server or a worker may take; `0`: without end",
        ),
        V(
            "HEIMDALL_LOCK_SECONDS",
            "10",
            "PostgreSQL: how long a statement may wait for a lock; `0`: without end",
        ),
        V("HEIMDALL_SQLITE_BUSY_SECONDS", "30", "SQLite: how long a writer waits for another one"),
        V(
            "REDIS_URL",
            "",
            "wake-ups of workers go through this Redis, and through the database while it is away; it is the channel "
            "layer between web processes, which tells open pages of a logout at once",
        ),
        V(
            "HEIMDALL_S3_BUCKET",
            "",
            "the bucket in which checkpoints and datasets lie",
            otherwise="they lie in the data folder",
        ),
        V("HEIMDALL_S3_PREFIX", "", "the path in the bucket below which they lie"),
        V(
            "HEIMDALL_S3_ENDPOINT",
            "",
            "the S3 server, such as `https://minio.example.org:9000`",
            otherwise="AWS",
        ),
        V(
            "HEIMDALL_S3_PUBLIC_ENDPOINT",
            "",
            "the same server as browsers reach it, for downloads",
            otherwise="the endpoint",
        ),
        V(
            "HEIMDALL_S3_TIMEOUT_SECONDS",
            "20",
            "how long the S3 server may be silent before a request is tried again",
        ),
        V("AWS_ACCESS_KEY_ID", "", "who asks the S3 server", otherwise="as boto3 finds it"),
        V("AWS_SECRET_ACCESS_KEY", "", "its secret", otherwise="as boto3 finds it"),
        V("AWS_SESSION_TOKEN", "", "its session", otherwise="as boto3 finds it"),
        V("AWS_REGION", "", "the bucket's region", otherwise="`AWS_DEFAULT_REGION`"),
        V(
            "AWS_DEFAULT_REGION",
            "",
            "the region where `AWS_REGION` is not set",
            otherwise="as boto3 finds it",
        ),
    ),
)

WORKER = Group(
    "The worker of a host",
    (
        V(
            "HEIMDALL_SLOTS",
            None,
            "jobs that run at a time on this host, each on a GPU of its own; those beyond the last GPU compute on "
            "the CPU",
            otherwise="number of GPUs (of `CUDA_VISIBLE_DEVICES`, where that is set), else 1",
        ),
        V(
            "HEIMDALL_ADDRESS",
            "",
            "the address at which other hosts reach this one, for jobs that train on several",
            otherwise="what the host's name leads to",
        ),
        V("HEIMDALL_NODE_NAME", None, "what this host is called", otherwise="the host's name"),
        V("HEIMDALL_POOLS", "", "labels of this host, separated by commas: jobs may ask for one"),
        V(
            "HEIMDALL_START_METHOD",
            "warm",
            "how a trainer is started: `warm` from a fork server that has torch imported, or `cold` by exec",
        ),
        V(
            "HEIMDALL_HASH_SECONDS",
            "60",
            "how often the state of a training is hashed between two checkpoints, for its "
            "[certificate](certificate.md); never more than 0.4 % of the time goes into it; `0`: never",
        ),
        V(
            "HEIMDALL_REPLAY_PERCENT",
            "0",
            "of how many percent of the stretches of each completed training are trained again, on slots that are "
            "idle, to see whether the same comes out",
        ),
        V(
            "HEIMDALL_LEASE_SECONDS",
            "60",
            "how long a silent worker keeps a job: its lease",
        ),
        V(
            "HEIMDALL_HEARTBEAT_SECONDS",
            "10",
            "how often a worker renews its leases; at most half of the lease",
        ),
        V(
            "HEIMDALL_ELASTIC_SECONDS",
            "0",
            "after so long an elastic job may stop at a step to go on with more devices, where some are free and "
            "nobody waits for them, or with fewer, where somebody does; 0: it changes only when it is stopped anyway",
        ),
        V(
            "HEIMDALL_STALL_SECONDS",
            "1800",
            "the watchdog's patience: a trainer without progress for this long is killed and counted as crashed",
        ),
        V(
            "HEIMDALL_DRAIN_GRACE_SECONDS",
            "60",
            "how long a stopping worker waits for checkpoints to be stored",
        ),
        V(
            "HEIMDALL_STAGING_MAX_FILES",
            "4",
            "checkpoints of one job that may wait on the worker's disk while the store is away; beyond that the "
            "oldest is left out, never the newest",
        ),
        V("HEIMDALL_STAGING_MAX_GB", "50", "gigabytes of one job that may wait there"),
        V(
            "HEIMDALL_LOG_MB",
            "32",
            "megabytes of one job's log that are kept; beyond them only the end of each attempt's log, and the log "
            "says how much was left out",
        ),
        V(
            "HEIMDALL_LOG_KB_PER_SECOND",
            "32",
            "kilobytes a second of it that are written for long; 256 may come at once, and of what is more the "
            "newest part is kept",
        ),
        V("HEIMDALL_SWEEP_SECONDS", "5", "how often a worker looks for lost wake-ups"),
        V("HEIMDALL_CANARY_SECONDS", "30", "after how long a silent cluster of worker processes is replaced"),
        V("HEIMDALL_ORPHAN_GRACE_SECONDS", "3600", "age at which a file that no row names is deleted"),
        V(
            "HEIMDALL_DISCARDED_KEEP_SECONDS",
            "604800",
            "how long checkpoints are kept that were set aside or given up",
        ),
    ),
)

RECIPES = Group(
    "Recipes and commands",
    (
        V("HEIMDALL_RECIPES", "", "your recipes: importable packages, separated by commas"),
        V(
            "HEIMDALL_TEXT_FOLDERS",
            "",
            "folders, separated by commas, whose text the language model may be trained on",
        ),
        V(
            "HEIMDALL_PROGRAMS",
            "1",
            "`0`: no job may be a program (a script or a command), and no worker takes one",
        ),
        V(
            "HEIMDALL_ENVIRONMENTS",
            "",
            "this host's Pythons that programs may name, like `torch26=/opt/torch26/bin/python`, separated by "
            "commas; a job goes to a host that has its environment",
        ),
        V("HEIMDALL_CODE_MB", "64", "megabytes that the code of a program may have"),
        V("HEIMDALL_USER", "", "who asks, on the command line", otherwise="the first administrator"),
        V(
            "HEIMDALL_MAP_TILES",
            "",
            "tiles under the map of located transmitters, like `https://tiles.example.org/{z}/{x}/{y}.png`; without, "
            "it shows coasts and borders alone and loads nothing from elsewhere",
        ),
        V("HEIMDALL_MAP_TILES_BY", "", "who made the tiles, as their licence wants it said on the map"),
        V(
            "HEIMDALL_DEMO",
            "1",
            "`0`: no demo at the first start; `examples`: the example programs after it, those of `make examples`",
            deployed="0",
        ),
    ),
)

MESSAGES = Group(
    "Messages and the log",
    (
        V(
            "HEIMDALL_EMAIL_URL",
            "",
            "the mail server, like `smtp+tls://name:password@mail.example.org:587`; no server, no e-mail",
        ),
        V("HEIMDALL_EMAIL_FROM", "heimdall@localhost", "the sender of e-mails"),
        V(
            "HEIMDALL_WEBHOOK_ALLOW",
            "",
            "hosts and networks that are not public and may be called by webhooks all the same, like "
            "`chat.lab,10.1.0.0/16`",
        ),
        V(
            "HEIMDALL_WEBHOOK_PORTS",
            "",
            "the only ports that webhooks go to, like `443,8443`",
            otherwise="80, 443, and ports from 1024 by which no other service is known",
        ),
        V(
            "HEIMDALL_METRICS_TOKEN",
            "",
            "the bearer token with which `/metrics` may be read; staff may always",
        ),
        V("HEIMDALL_LOG_LEVEL", "INFO", "how much is logged: `DEBUG`, `INFO`, `WARNING` or `ERROR`"),
        V("HEIMDALL_LOG_JSON", "0", "`1`: the log as JSON, one object a line", deployed="1"),
    ),
)

GROUPS = (WEB, PEOPLE, STORE, WORKER, RECIPES, MESSAGES)
BY_NAME = {variable.name: variable for group in GROUPS for variable in group.variables}
