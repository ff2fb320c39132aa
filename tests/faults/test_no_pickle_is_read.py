"""Nothing of ours loads a pickle or runs text as code; what lies in the database, the cache or a file is data."""

from __future__ import annotations

import ast
import os
import pickle
from pathlib import Path

import pytest
from django.conf import settings
from django.core.cache import cache
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from training import queue

ROOT = Path(__file__).parents[2]
SOURCES = [path for top in ("training", "heimdall") for path in sorted((ROOT / top).rglob("*.py"))]
MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "shelve",
    "marshal",
    "yaml",
    "picklefield",
}
BUILTINS = {"eval", "exec", "compile"}
LOADERS = {("torch", "load"), ("torch.jit", "load"), ("pickle", "loads"), ("os", "system"), ("os", "popen")}


def findings(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [f"import {alias.name}" for alias in names if alias.name.split(".")[0] in MODULES]
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES:
                found.append(f"from {module} import")
            case ast.Call(func=ast.Name(id=name)) if name in BUILTINS:
                found.append(f"{name}()")
            case ast.Call(func=func, keywords=keywords):
                owner, _, attr = ast.unparse(func).rpartition(".")
                if (owner, attr) in LOADERS:
                    found.append(f"{owner}.{attr}()")
                options = {word.arg: getattr(word.value, "value", None) for word in keywords}
                if attr == "load" and owner in {"np", "numpy"} and options.get("allow_pickle") is not False:
                    found.append("np.load() that may load a pickle")
                if options.get("allow_pickle") or options.get("shell"):
                    found.append(f"{attr}() with allow_pickle or shell")
    return found


def test_the_search_finds_what_it_looks_for():
    hidden = (
        "import pickle\nfrom shelve import open\neval('1')\ntorch.load(x)\nnp.load(f)\nrun(a, shell=True)"
    )
    assert len(findings(hidden)) == 6


def test_no_source_of_ours_reads_a_pickle_or_runs_text():
    assert len(SOURCES) > 80
    assert not {
        str(path.relative_to(ROOT)): found for path in SOURCES if (found := findings(path.read_text()))
    }


class Evil:
    """Unpickled, it makes a folder."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


def test_the_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Evil(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["signed", "plain", "unknown word", "two lines", "empty", "long number"])
def test_a_queue_message_that_is_not_ours_is_dropped_unread(tmp_path, kind):
    package = SignedPackage.dumps({"func": "os.mkdir", "args": (Evil(tmp_path / "sprung"),), "kwargs": {}})
    payload = {
        "signed": package,
        "plain": pickle.dumps(Evil(tmp_path / "sprung"), protocol=0).decode("ascii"),
        "unknown word": f"os.mkdir 1 {'0' * 32}",
        "two lines": f"supervise 1 {'0' * 32}\n",
        "empty": "",
        "long number": f"supervise {'9' * 5000} {'0' * 32}",
    }[kind]
    OrmQ.objects.create(key=settings.Q_CLUSTER["name"], payload=payload)
    assert not queue.Broker(list_key=settings.Q_CLUSTER["name"]).dequeue()
    assert not OrmQ.objects.exists()
    assert not (tmp_path / "sprung").exists()


@pytest.mark.django_db(transaction=True)
def test_a_message_names_one_of_our_tasks_and_a_number():
    name = queue.wake(7)
    assert OrmQ.objects.get().payload == f"supervise 7 {name}"
    ((_, package),) = queue.Broker(list_key=settings.Q_CLUSTER["name"]).dequeue()
    task = SignedPackage.loads(package)  # made a line ago, for the cluster's own memory
    assert (task["func"], task["args"], task["kwargs"]) == ("training.worker.tasks.supervise", (7,), {})


def test_nothing_is_kept_in_a_cache_that_pickles():
    cache.set("key", "value")
    assert cache.get("key") is None
