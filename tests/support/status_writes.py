"""Finds in a module's text what writes a job's status, stop, attempt, lease or pointer, however it is put.

.update(status=...)             and .aupdate, update_or_create(defaults=...)
.update(**changes)              the dict is followed through its scope; one that cannot be followed is reported
update_and_read(rows, changes)  as .update(**changes)
.bulk_update(jobs, ["status"])  and .save(update_fields=[...])
setattr(job, "status", ...)     a name that cannot be followed is reported
job.status = ...                of anything but `self`
"UPDATE training_trainingjob"   in SQL
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator

FIELDS = {"status", "stop", "stop_at", "attempt", "latest_checkpoint", "checkpoint", "lease_expires_at"}
GUARDED = FIELDS | {"latest_checkpoint_id"}
UPDATES = {"update", "aupdate"}
WITH_DEFAULTS = {"update_or_create", "aupdate_or_create", "get_or_create", "aget_or_create"}
WITH_NAMES = {
    "bulk_update": 1,
    "abulk_update": 1,
    "save": 3,
    "asave": 3,
}  # where the names of fields may stand
_SQL = re.compile(
    r'\b(?:UPDATE|INSERT\s+INTO|DELETE\s+FROM)\s+"?training_(?:trainingjob|attempt)\b', re.IGNORECASE
)
UNKNOWN = "?"  # a name that this module's text does not say


def status_writes(source: str) -> set[str]:
    """The guarded fields that the module writes; with a `?` what it writes by a name that cannot be followed."""
    found: set[str] = set()
    tree = ast.parse(source)
    for scope in _scopes(tree):
        known = _Names(tree, scope)
        for node in _within(scope):
            found |= {name for name in _written(node, known) if name in GUARDED or name.startswith(UNKNOWN)}
    return found


def _written(node: ast.AST, known: _Names) -> Iterator[str]:
    if isinstance(node, ast.Call):
        yield from _written_by_call(node, known)
    elif isinstance(node, ast.Assign):
        yield from _written_by_assignment(node.targets)
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        yield from _written_by_assignment([node.target])
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.search(node.value):
        yield f"{UNKNOWN} SQL"


def _written_by_call(call: ast.Call, known: _Names) -> Iterator[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    is_method = isinstance(call.func, ast.Attribute)
    if is_method and name in UPDATES:
        for keyword in call.keywords:
            yield from [keyword.arg] if keyword.arg else known.keys(keyword.value)
    elif name == "update_and_read":
        yield from known.keys(call.args[1] if len(call.args) > 1 else _option(call, "changes"))
    elif is_method and name in WITH_DEFAULTS:
        for option in ("defaults", "create_defaults"):
            if any(keyword.arg == option for keyword in call.keywords):
                yield from known.keys(_option(call, option))
    elif is_method and name in WITH_NAMES:
        yield from _named_fields(call, name, known)
    elif name in {"setattr", "__setattr__"} and len(call.args) >= 3 and not _is_self(call.args[0]):
        yield from known.texts(call.args[1])


def _named_fields(call: ast.Call, name: str, known: _Names) -> Iterator[str]:
    given = _option(call, "fields" if "bulk" in name else "update_fields")
    if given is None and len(call.args) > WITH_NAMES[name]:
        given = call.args[WITH_NAMES[name]]
    if given is not None:
        yield from known.texts(given)
    elif "bulk" in name:
        yield UNKNOWN


def _written_by_assignment(targets: list[ast.expr]) -> Iterator[str]:
    for target in targets:
        if isinstance(target, ast.Tuple | ast.List):
            yield from _written_by_assignment(target.elts)
        elif isinstance(target, ast.Attribute) and not _is_self(target.value):
            yield target.attr


def _option(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


class _Names:
    """What the names of a scope stand for, as far as its text, and that of the module around it, says."""

    def __init__(self, tree: ast.Module, scope: ast.AST) -> None:
        self._values: dict[str, list[ast.expr]] = {}
        self._more_keys: dict[str, list[ast.expr]] = {}
        for node in [*_within(tree), *(_within(scope) if scope is not tree else ())]:
            self._take_in(node)

    def keys(self, node: ast.expr | None) -> set[str]:
        """The keys of a dict."""
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            return _union(self.texts(key) if key else self.keys(value) for key, value in pairs)
        if isinstance(node, ast.BinOp):
            return self.keys(node.left) | self.keys(node.right)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "dict":
            named = ({word.arg} if word.arg else self.keys(word.value) for word in node.keywords)
            return _union([*named, *(self.keys(one) for one in node.args)])
        if isinstance(node, ast.Name) and node.id in self._values:
            more = _union(self.texts(key) for key in self._more_keys.get(node.id, ()))
            return more | self._of_all(node.id, self.keys)
        return {UNKNOWN}

    def texts(self, node: ast.expr) -> set[str]:
        """A text, or the texts of a list."""
        if isinstance(node, ast.Constant):
            return {str(node.value)}
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return _union(self.texts(one) for one in node.elts)
        if isinstance(node, ast.Name) and node.id in self._values:
            return self._of_all(node.id, self.texts)
        return {UNKNOWN}

    def _of_all(self, name: str, ask: Callable[[ast.expr], set[str]]) -> set[str]:
        values = self._values.pop(name)  # a name that is made of itself is not asked again
        found = _union(ask(value) for value in values)
        self._values[name] = values
        return found

    def _take_in(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._take_in_target(target, node.value)
        elif isinstance(node, ast.AnnAssign | ast.AugAssign) and node.value:
            self._take_in_target(node.target, node.value)
        elif isinstance(node, ast.For):
            self._take_in_target(node.target, node.iter)
        elif isinstance(node, ast.Call):
            self._take_in_update(node)

    def _take_in_update(self, call: ast.Call) -> None:
        """`changes.update(...)` of a dict. Where it is a queryset's, nobody asks for its name."""
        match call.func:
            case ast.Attribute(attr="update", value=ast.Name(id=name)):
                keys = (ast.Constant(word.arg) for word in call.keywords if word.arg)
                self._more_keys.setdefault(name, []).extend(keys)
                self._values.setdefault(name, []).extend(call.args)

    def _take_in_target(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._values.setdefault(target.id, []).append(value)
        elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
            self._more_keys.setdefault(target.value.id, []).append(target.slice)


def _scopes(tree: ast.Module) -> list[ast.AST]:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [tree, *functions]


def _within(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a scope without those of the functions in it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _within(child)


def _union(sets: Iterable[set[str]]) -> set[str]:
    return set().union(*sets)
