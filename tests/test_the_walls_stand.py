"""Which folder may import which. One table, no exception without a reason beside it.

Two wings: `heimdall/` runs inside trainings and on laptops, `training/` is the Django app. The arrows run one way,
from `training/` to `heimdall/`, and in each wing downwards.
"""

import ast
import os
import re
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from heimdall import _HOMES as FACE
from tests.support.status_writes import status_writes

ROOT = Path(__file__).parents[1]

LAW = {"training.errors", "training.lifecycle"}
ROWS = {"training.fields", "training.models", "training.policy", "training.statements", *LAW}
OUTSIDE = {"training.host", "training.hardware", "training.notifications", "training.queue", "training.store"}
CONFIGS = {
    "heimdall.attached.program", "heimdall.recipes.config", "heimdall.recipes.demand", "heimdall.recipes.registry",
}  # fmt: skip
PLAIN = {
    "heimdall.certificate",
    "heimdall.code_archive",
    "heimdall.errors",
    "heimdall.failpoints",
    "heimdall.files",
    "heimdall.plain_json",
    "heimdall.processes",
    "heimdall.site",
    "heimdall.trainer.exit_codes",
    "heimdall.trainer.protocol",
}
BELOW_THE_DOORS = {
    *ROWS,
    *OUTSIDE,
    *CONFIGS,
    *PLAIN,
    "training.services",
    "training.queries",
    "training.placement",
    "training.sweeps",
}

# folder or module -> what of ours it may import beside itself. The longest name that fits has the say.
MAY_IMPORT = {
    # What trains.
    "heimdall.errors": set(),
    "heimdall.failpoints": set(),
    "heimdall.code_archive": {"heimdall.errors"},
    "heimdall.files": set(),
    "heimdall.plain_json": set(),
    "heimdall.processes": set(),
    "heimdall.codec": {"heimdall.failpoints", "heimdall.files", "heimdall.plain_json"},
    "heimdall.trainer": {"heimdall.plain_json", "heimdall.processes"},
    "heimdall.recipes": {"heimdall.errors", "heimdall.files"},
    "heimdall.recipes.localization": {
        "heimdall.recipes", "heimdall.codec", "heimdall.errors", "heimdall.files",
    },
    "heimdall.engine": {
        "heimdall.codec", "heimdall.failpoints", "heimdall.files", "heimdall.processes", "heimdall.recipes",
        "heimdall.trainer",
    },
    "heimdall.attached": {"heimdall.engine", "heimdall.errors", "heimdall.recipes", "heimdall.trainer"},
    # A script that asks for it is reported by the client, which a supervised one never loads.
    "heimdall.attached.reporting": {"heimdall.attached", "heimdall.client", "heimdall.errors"},
    # From anywhere: it knows the API's addresses and nothing of the app.
    "heimdall.client": {"heimdall.certificate", "heimdall.code_archive", "heimdall.codec", "heimdall.errors"},
    # On an auditor's machine: no torch, no Django, no database.
    "heimdall.certificate": {"heimdall.codec", "heimdall.errors"},
    "heimdall.foreign_weights": {"heimdall.codec", "heimdall.errors", "heimdall.recipes"},
    "heimdall.check": {
        "heimdall.attached", "heimdall.certificate", "heimdall.code_archive", "heimdall.codec", "heimdall.errors",
        "heimdall.plain_json", "heimdall.recipes", "heimdall.trainer",
    },
    # The composition: it names the app's URLs and sockets, and nobody but it may look there from this wing.
    "heimdall.site": {"heimdall.files", "heimdall.processes"},
    # It reads names of pools as jobs may hold them; training.fields needs neither Django nor a database.
    "heimdall.site.settings": {"heimdall.site", "training.fields"},
    "heimdall.site.urls": {"training.presentation", "training.urls"},
    "heimdall.site.asgi": {"heimdall.site", "training.api", "training.live"},
    # What decides.
    "training.errors": {"heimdall.errors"},
    "training.lifecycle": set(),
    "training.fields": {"heimdall.errors"},
    "training.statements": set(),
    "training.host": {"training.hardware"},
    "training.hardware": set(),
    "training.models": {*LAW, "training.fields"},
    "training.policy": {*ROWS, "heimdall.errors"},
    "training.notifications": {*LAW, "heimdall.plain_json"},
    "training.store": {*ROWS, *CONFIGS, *PLAIN, "heimdall.codec"},
    "training.queue": {*ROWS, *PLAIN, "training.host"},
    "training.placement": {*ROWS, "heimdall.attached.program"},
    # An idle slot trains stretches again; what leads a trainer through one knows no torch.
    "training.runner": {
        *BELOW_THE_DOORS, "heimdall.trainer", "heimdall.check.rehearsal", "heimdall.check.replaying",
    },
    # What a sweep searches and who goes on: pure functions, and a process that asks Optuna.
    "training.sweeps": {"heimdall.errors", "training.errors"},
    "training.queries": {*ROWS, *PLAIN, "training.placement", "training.sweeps"},
    "training.services": {*ROWS, *OUTSIDE, *CONFIGS, *PLAIN, "training.placement", "training.sweeps"},
    "training.scheduling": {
        *ROWS, "heimdall.errors", "heimdall.failpoints", "training.placement", "training.queries",
        "training.services", "training.sweeps",
    },
    "training.worker": {*BELOW_THE_DOORS, "heimdall.trainer", "training.runner", "training.scheduling"},
    "training.live": {*BELOW_THE_DOORS},
    # The doors: none imports another. What they share lies below them.
    "training.templatetags": {*BELOW_THE_DOORS, "training.presentation"},
    "training.presentation": BELOW_THE_DOORS,
    "training.views": {*BELOW_THE_DOORS, "training.templatetags", "training.presentation"},
    # Answers as files for maps, of which the recipe alone knows what is in them; plain text, no torch.
    "training.presentation.located_files": {
        *BELOW_THE_DOORS, "training.presentation", "heimdall.recipes.localization.locating.geographic",
    },
    "training.urls": {"training.views"},
    "training.api": {*BELOW_THE_DOORS, "training.presentation"},
    "training.admin": {*BELOW_THE_DOORS, "training.templatetags", "training.presentation"},
    "training.checks": BELOW_THE_DOORS,
    "training.management": {
        *BELOW_THE_DOORS, "training.presentation", "training.checks", "training.worker", "heimdall.recipes",
    },
    "training.apps": {"training.checks", "training.live", "training.policy", "training.queries"},
}  # fmt: skip

TORCH = {
    "heimdall.attached", "heimdall.check", "heimdall.engine", "heimdall.foreign_weights", "heimdall.recipes",
    "heimdall.codec",
}  # fmt: skip
DJANGO = {"heimdall.site", "training"}
DJANGO_Q = {"training.queue", "training.admin.queue"}
DJANGOS = {"django", "django_q", "channels", "rest_framework"}


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted([*(ROOT / "training").rglob("*.py"), *(ROOT / "heimdall").rglob("*.py")]):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name.split(".")[1:2] != ["migrations"] and name not in {"training", "heimdall"}:
            found.append((name, path))
    return found


@cache
def imported_by(path: Path, name: str) -> set[str]:
    """Dotted names of the modules that a file imports, anywhere in it; TYPE_CHECKING included."""
    found = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            if base == "heimdall" and {alias.name for alias in node.names} == {"__version__"}:
                continue  # a fact about everything, and no module
            if base == "heimdall":  # the public face: what is taken from it counts as taken where it lives
                found |= {FACE[alias.name] for alias in node.names if alias.name in FACE}
                if all(alias.name in FACE for alias in node.names):
                    continue
            names = {f"{base}.{alias.name}" for alias in node.names}
            # `from training import queue` imports the module queue, and nothing else that `training` holds.
            found |= {one for one in names if is_module(one)} or {base}
            if not all(is_module(one) for one in names):
                found.add(base)
    return found


@cache
def is_module(name: str) -> bool:
    path = ROOT / Path(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def ours(path: Path, name: str) -> set[str]:
    return {
        one for one in imported_by(path, name) if within(one, {"training", "heimdall"}) and is_module(one)
    }


def room_of(name: str) -> str:
    """The longest entry of the table that this module lies in."""
    fitting = [entry for entry in MAY_IMPORT if within(name, {entry})]
    assert fitting, f"{name} stands behind no wall: say in this test what it may import"
    return max(fitting, key=len)


MODULES = modules()
NAMES = [name for name, _ in MODULES]


@pytest.mark.parametrize(("name", "path"), MODULES, ids=NAMES)
def test_a_module_imports_only_what_it_may(name, path):
    room = room_of(name)
    refused = {one for one in ours(path, name) if not within(one, MAY_IMPORT[room] | {room})}
    assert not refused, f"{name} must not import {sorted(refused)}"


@pytest.mark.parametrize(("name", "path"), MODULES, ids=NAMES)
def test_torch_django_and_the_queue_stay_where_they_belong(name, path):
    roots = {one.split(".")[0] for one in imported_by(path, name)}
    if not within(name, TORCH):
        assert "torch" not in roots
    if not within(name, DJANGO):
        assert not roots & DJANGOS
        assert "training" not in roots
    if not within(name, DJANGO_Q):
        assert "django_q" not in roots


# What keeps and seeds the global generators, and what makes one of one's own.
NO_DRAW = {
    "seed", "getstate", "setstate", "get_state", "set_state", "default_rng", "Random", "SystemRandom", "Generator",
    "RandomState",
}  # fmt: skip


def global_draws(source: str) -> set[str]:
    """What a module draws from Python's or numpy's global generator."""
    tree = ast.parse(source)
    of_python = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "random"
    }
    generators = of_python | {"np.random", "numpy.random"}
    used = [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in generators
    ]
    named = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("random", "numpy.random")
        for alias in node.names
    ]
    return {*used, *named} - NO_DRAW


@pytest.mark.parametrize(("name", "path"), [one for one in MODULES if within(one[0], {"heimdall"})], ids=str)
def test_what_runs_in_trainings_leaves_their_generators_alone(name, path):
    assert not global_draws(path.read_text())


def test_a_global_draw_is_seen_however_it_is_put():
    drawing = ("import random\nrandom.uniform(0, 1)", "from random import choice", "np.random.rand()")
    assert [global_draws(text) for text in drawing] == [{"uniform"}, {"choice"}, {"rand"}]
    kept = "import random\nrandom.SystemRandom().random()\nrandom.getstate()"
    assert not global_draws(kept)
    assert not global_draws("def draw(random: np.random.Generator):\n    return random.uniform(0, 1)")


def test_no_two_modules_import_each_other_in_a_circle():
    graph = {name: {one for one in ours(path, name) if one != name} for name, path in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def run_python(code: str) -> str:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "heimdall.site.settings"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_the_web_process_and_the_supervisor_import_no_torch():
    code = (
        "import django, sys; django.setup();"
        "import heimdall.site.asgi, heimdall.site.urls;"
        "import training.runner, training.admin, training.api.urls, training.views;"
        "from heimdall.recipes import registry; [registry.schema(name) for name in registry.names()];"
        "print('torch' in sys.modules)"
    )
    assert run_python(code) == "False"


def test_a_trainer_imports_no_django_and_nothing_of_the_app():
    code = (
        "import sys; import heimdall.engine.recipe_job;"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'django', 'training'}))"
    )
    assert run_python(code) == "[]"


@pytest.mark.parametrize("package", ["admin", "models", "notifications", "presentation", "services", "views"])
def test_a_package_that_lists_its_modules_names_each_and_no_other(package):
    folder = ROOT / "training" / package
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    there = sorted(path.name for path in folder.glob("*.py") if path.name != "__init__.py")
    assert sorted(re.findall(r"(?:^| {2,})(\w+\.py) ", text, re.MULTILINE)) == there


# It writes what it is given; who calls it is looked at.
WRITES_WHAT_IT_IS_GIVEN = {"training.statements"}


OUTSIDE_THE_SERVICES = [
    (name, path)
    for name, path in MODULES
    if within(name, {"training"}) and not within(name, {"training.services", *WRITES_WHAT_IT_IS_GIVEN})
]


@pytest.mark.parametrize(
    ("name", "path"), OUTSIDE_THE_SERVICES, ids=[name for name, _ in OUTSIDE_THE_SERVICES]
)
def test_only_the_services_write_a_status_a_stop_an_attempt_or_a_pointer(name, path):
    assert not status_writes(path.read_text())


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("jobs.update(status='paused')", {"status"}),
        ("await jobs.aupdate(stop='pause')", {"stop"}),
        ("jobs.update(**{'stop': 'pause', 'phase': ''})", {"stop"}),
        ("changes = {'phase': ''}; changes['attempt'] = 2; jobs.update(**changes)", {"attempt"}),
        ("changes = {'phase': ''}; changes |= {'status': 'x'}; jobs.update(**changes)", {"status"}),
        ("changes = {}; changes.update(stop=''); jobs.update(**changes)", {"stop"}),
        ("changes = {}; changes.update({'stop_at': ''}); jobs.update(**changes)", {"stop_at"}),
        ("jobs.update(**dict(lease_expires_at=None))", {"lease_expires_at"}),
        ("jobs.update(**({'phase': ''} | {'checkpoint': ''}))", {"checkpoint"}),
        ("jobs.update(**other.changes())", {"?"}),
        ("def write(changes):\n    jobs.update(**changes)", {"?"}),
        ("update_and_read(jobs, {'status': 'paused'})", {"status"}),
        ("statements.update_and_read(jobs, changes={'stop': ''})", {"stop"}),
        ("TrainingJob.objects.update_or_create(pk=1, defaults={'status': 'x'})", {"status"}),
        ("TrainingJob.objects.bulk_update(jobs, ['status', 'phase'])", {"status"}),
        ("TrainingJob.objects.bulk_update(jobs, fields=names)", {"?"}),
        ("names = ('latest_checkpoint',); TrainingJob.objects.bulk_update(jobs, names)", {"latest_checkpoint"}),
        ("job.save(update_fields=['stop', 'phase'])", {"stop"}),
        ("setattr(job, 'status', 'paused')", {"status"}),
        ("for name in ('phase', 'stop'):\n    setattr(job, name, '')", {"stop"}),
        ("def write(job, name):\n    setattr(job, name, '')", {"?"}),
        ("job.status = 'paused'", {"status"}),
        ("job.phase, job.stop = '', ''", {"stop"}),
        ("seen.job.attempt += 1", {"attempt"}),
        ("job.latest_checkpoint_id = 4", {"latest_checkpoint_id"}),
        ("cursor.execute('UPDATE training_trainingjob SET stop = 1')", {"? SQL"}),
        ("jobs.update(phase=''); facts.update(found); self.attempt = attempt; self.stop = None", set()),
    ],
)  # fmt: skip
def test_a_write_is_seen_however_it_is_put(written, found):
    assert status_writes(written) == found
