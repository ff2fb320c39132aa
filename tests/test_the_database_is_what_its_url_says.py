"""DATABASE_URL: what it may be, what becomes of it in a process that serves, and what is said of a bad one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from psycopg import IsolationLevel

from heimdall.site import database

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "is not a database URL"),
        ("postgres://h:port/name", "is not a database URL"),
        ("mysql://alice:open-sesame@h/name", "names mysql"),
        ("postgres://alice:open-sesame@h", "names no database"),
        ("sqlite:///", "names no database"),
        ("sqlite://:memory:", "names no database"),
        ("sqlite:////tmp/x?timeout=3", "takes no options"),
        ("sqlite:////tmp/x?y.sqlite3", "as %3F"),
        ("sqlite:////tmp/x#y.sqlite3", "as %23"),
        ("postgres://alice:open-sesame@h/name#1", "as %23"),
        ("postgres://alice:open-sesame@h/name?colour=blue", "colour"),
        ("postgres://h/name?conn_max_age=5", "conn_max_age"),
    ],
)
def test_a_bad_url_is_refused_with_the_variables_name_and_without_its_password(
    url, said, monkeypatch, tmp_path
):
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(ImproperlyConfigured) as refused:
        database.configured(tmp_path)
    assert "DATABASE_URL" in str(refused.value)
    assert said in str(refused.value)
    assert "open-sesame" not in str(refused.value)


def test_a_sqlite_that_is_too_old_is_refused_with_its_version(monkeypatch, tmp_path):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 34, 1))
    with pytest.raises(ImproperlyConfigured, match=r"needs 3\.35 or newer"):
        database.configured(tmp_path)


def test_options_of_libpq_are_passed_on_and_the_isolation_is_ours(monkeypatch, tmp_path):
    monkeypatch.setenv(
        "DATABASE_URL", "postgres://alice:a%2Fb@db.example.org:5433/jobs?sslmode=require&connect_timeout=3"
    )
    found = database.configured(tmp_path)
    assert (found["HOST"], found["PORT"], found["NAME"], found["PASSWORD"]) == (
        "db.example.org",
        5433,
        "jobs",
        "a/b",
    )
    options = found["OPTIONS"]
    assert (options["sslmode"], options["connect_timeout"]) == ("require", 3)
    assert options["isolation_level"] is IsolationLevel.READ_COMMITTED


@pytest.mark.parametrize(
    ("url", "is_sqlite", "said"),
    [
        ("postgres://alice:open-sesame@h/name", True, "DATABASE_URL names no PostgreSQL"),
        ("postgres://alice:open-sesame@h", False, "is no PostgreSQL database"),
        ("postgres://alice:open-sesame@h/name?colour=blue", False, "is no PostgreSQL database"),
        ("sqlite:////tmp/open-sesame", False, "is no PostgreSQL database"),
        ("dbname=name password=open-sesame", False, "is no PostgreSQL database"),
    ],
)
def test_a_bad_url_to_listen_at_is_refused(url, is_sqlite, said, monkeypatch):
    monkeypatch.setenv("HEIMDALL_LISTEN_URL", url)
    with pytest.raises(ImproperlyConfigured, match=said) as refused:
        database.listening(is_sqlite)
    assert str(refused.value).startswith("HEIMDALL_LISTEN_URL")
    assert "open-sesame" not in str(refused.value)


SERVING = """
import json, sys, django
django.setup()
from django.db import connection
from heimdall.site import database
from django.conf import settings
getattr(database, sys.argv[1])("test")
asked = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "application_name", "work_mem")
with connection.cursor() as cursor:
    found = {}
    for name in asked:
        cursor.execute(f"SHOW {name}")
        found[name] = cursor.fetchone()[0]
first = connection.connection
from django.db import close_old_connections
close_old_connections()
found["goes back to a pool"] = connection.connection is None and not first.closed
found["stays with its thread"] = connection.connection is first
connection.close()
connection.close_pool()
print(json.dumps(found))
"""


@pytest.mark.parametrize("how", ["share_connections", "keep_connections"])
def test_a_process_that_serves_keeps_connections_and_gives_statements_an_end(how, postgresql, tmp_path):
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "heimdall.site.settings",
        "HEIMDALL_DATA_DIR": str(tmp_path),
        "HEIMDALL_LOCK_SECONDS": "2.5",
        "DATABASE_URL": f"{postgresql.url('postgres')}&options=-c%20work_mem%3D5MB",
    }
    command = [sys.executable, "-c", SERVING, how]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "statement_timeout": "1min",
        "lock_timeout": "2500ms",
        "idle_in_transaction_session_timeout": "30s",
        "application_name": "heimdall test",
        "work_mem": "5MB",
        "goes back to a pool": how == "share_connections",
        "stays with its thread": how == "keep_connections",
    }


FULL = """
import threading, django
django.setup()
from django.db import connection, connections
from django.test import Client
from heimdall.site import database
database.share_connections("test")
connections.settings["default"]["OPTIONS"]["pool"]["timeout"] = 0.3
taken, over = threading.Barrier(3), threading.Event()
def hold():
    connection.ensure_connection()
    taken.wait()
    over.wait()
    connection.close()
holders = [threading.Thread(target=hold) for _ in range(2)]
for holder in holders:
    holder.start()
taken.wait()
ask = lambda: Client(headers={"host": "localhost"}).get("/readyz").json()["parts"]["database"]
print(ask())
over.set()
for holder in holders:
    holder.join()
print(ask())
connection.close()
connection.close_pool()
"""


def test_who_finds_all_connections_of_the_pool_busy_is_refused_and_the_next_is_served(postgresql, tmp_path):
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "heimdall.site.settings",
        "HEIMDALL_DATA_DIR": str(tmp_path),
        "HEIMDALL_WEB_CONNECTIONS": "2",
        "DATABASE_URL": postgresql.url("postgres"),
    }
    command = [sys.executable, "-c", FULL]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split("\n")[:2] == ["not ok", "ok"], done.stderr
