"""Which of our packages may import which, and who may import torch, django and django_q."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOORS = {
    "training.admin", "training.api", "training.asking", "training.checks", "training.dashboard", "training.forms",
    "training.live", "training.management", "training.templatetags", "training.urls", "training.views",
}  # fmt: skip
PLAIN = {"training.errors", "training.lifecycle"}
READS = {"training.models", "training.policy", "training.statements", *PLAIN}
ADAPTERS = {
    "training.bundles", "training.checkpoints", "training.datasets", "training.host", "training.notifications",
    "training.push", "training.queue", "training.storage", "training.wakeups",
}  # fmt: skip
CONFIGS = {"training.recipes.config", "training.recipes.registry"}

# package -> what of ours it may import beside itself. A longer name wins over a shorter one.
MAY_IMPORT = {
    "training.engine": {"training.recipes.config", "training.recipes.registry", "training.errors"},
    "training.recipes": {"training.engine", "training.errors"},
    "training.lifecycle": set(),
    "training.errors": set(),
    "training.host": set(),
    "training.hardware": set(),
    "training.wakeups": set(),
    "training.statements": set(),
    "training.storage": set(),
    "training.s3": {"training.storage"},
    "training.diagram": {"training.lifecycle"},
    "training.models": {"training.lifecycle", "training.storage"},
    "training.policy": READS,
    "training.waiting": READS,
    "training.counters": READS,
    "training.queries": READS | {"training.counters", "training.waiting"},
    "training.queue": {*PLAIN, "training.models", "training.host", "training.redis_queue", "training.wakeups"},
    "training.redis_queue": {"training.models"},
    "training.redis_broker": {"training.queue", "training.redis_queue"},
    "training.push": {*PLAIN, "training.models", "training.live.tailer"},
    "training.checkpoints": {*PLAIN, "training.models", "training.storage", "training.engine.codec"},
    "training.datasets": {*PLAIN, "training.models", "training.storage", "training.checkpoints"},
    "training.bundles": {*PLAIN, "training.models", "training.checkpoints", "training.engine.codec", *CONFIGS},
    "training.services": READS | ADAPTERS | CONFIGS | {"training.counters", "training.hardware", "training.waiting"},
    "training.runner": READS | ADAPTERS | {
        "training.services", "training.queries", "training.engine.process", "training.engine.forkserver",
        "training.engine.failpoints", "training.recipes.registry",
    },
    "training.notifications": PLAIN,
    "training.courier": {*READS, "training.services", "training.notifications"},
    "training.scheduler": {*READS, *ADAPTERS, "training.services", "training.queries", "training.waiting"},
    "training.tasks": {"training.runner", "training.scheduler", "training.queue", "training.host"},
}  # fmt: skip
DOORS_MAY = READS | ADAPTERS | CONFIGS | DOORS | {"training.services", "training.queries", "training.waiting"}
TORCH = {"training.engine", "training.recipes"}
DJANGO_Q = {"training.queue", "training.admin.queue"}


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted((ROOT / "training").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name.split(".")[1:2] not in (["migrations"], ["apps"]) and name != "training":
            found.append((name, path))
    return found


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
            found |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return found


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def rule_for(name: str) -> set[str]:
    if within(name, DOORS):
        return DOORS_MAY
    fitting = [package for package in MAY_IMPORT if within(name, {package})]
    assert fitting, f"{name} stands behind no wall: say in this test what it may import"
    package = max(fitting, key=len)
    return MAY_IMPORT[package] | {package}


def is_module(name: str) -> bool:
    path = ROOT / Path(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_a_module_imports_only_what_it_may(name, path):
    allowed = rule_for(name)
    ours = {one for one in imported_by(path, name) if one.startswith("training.") and is_module(one)}
    if name == "training.management.commands.worker":
        allowed = allowed | {"training.queue", "training.courier"}
    if name == "training.management.commands.localization":
        allowed = allowed | {"training.recipes.localization"}
    # `from training.recipes import registry` names the package above too: that is no import of what else is in it.
    refused = {
        one for one in ours if not within(one, allowed) and not any(within(ok, {one}) for ok in allowed)
    }
    assert not refused, f"{name} must not import {sorted(refused)}"


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_torch_django_and_the_queue_stay_where_they_belong(name, path):
    roots = {one.split(".")[0] for one in imported_by(path, name)}
    if not within(name, TORCH):
        assert "torch" not in roots
    if within(name, TORCH):
        assert not roots & {"django", "django_q", "channels", "rest_framework"}
    if not within(name, DJANGO_Q):
        assert "django_q" not in roots


def test_the_web_process_and_the_supervisor_import_no_torch():
    code = (
        "import django, sys; django.setup();"
        "import heimdall.site.asgi, heimdall.site.urls;"
        "import training.runner, training.admin, training.api.urls, training.views;"
        "from training.recipes import registry; [registry.schema(name) for name in registry.names()];"
        "print('torch' in sys.modules)"
    )
    environment = {"DJANGO_SETTINGS_MODULE": "heimdall.site.settings"}
    import os

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("False")


@pytest.mark.parametrize("package", ["admin", "notifications", "services", "views"])
def test_a_package_that_lists_its_modules_names_each_and_no_other(package):
    folder = ROOT / "training" / package
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    there = sorted(path.name for path in folder.glob("*.py") if path.name != "__init__.py")
    assert sorted(re.findall(r"(?:^| {2,})(\w+\.py) ", text, re.MULTILINE)) == there


def test_only_the_verbs_write_a_status_a_stop_an_attempt_or_a_pointer():
    fields = {"status", "stop", "stop_at", "attempt", "latest_checkpoint", "checkpoint", "lease_expires_at"}
    writers = set()
    for name, path in modules():
        if within(name, {"training.services"}):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "update"
            ):
                writers |= {(name, keyword.arg) for keyword in node.keywords if keyword.arg in fields}
            if isinstance(node, ast.Assign):
                targets = {target.attr for target in node.targets if isinstance(target, ast.Attribute)}
                if targets & fields and within(name, {"training.admin", "training.views", "training.api"}):
                    writers |= {(name, field) for field in targets & fields}
    assert not writers
