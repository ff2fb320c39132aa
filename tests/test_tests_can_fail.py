"""No test passes whatever the code does: each one asserts something, names its exception and its status."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# Besides assert: pytest's own, and helpers of the tests that raise.
CHECKS = ("raises", "warns", "fail", "error_of", "_as_test", "until", "report", "publish_and_wait")
BEGINNINGS = ("assert", "wait_for", "django_assert")
# A whole process has to end well, or a service has to take what it is given.
ENDS_WELL = ("check=True", "services.submit")


def every_test() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in sorted(HERE.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield f"{path.relative_to(HERE)}: {node.name}", node


TESTS = list(every_test())


def called_in(node: ast.AST) -> set[str]:
    return {ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)}


def asserts_in(node: ast.AST) -> list[ast.Assert]:
    return [each for each in ast.walk(node) if isinstance(each, ast.Assert)]


def names_several_statuses(check: ast.Assert) -> bool:
    return any(
        isinstance(one, ast.Compare)
        and "status_code" in ast.unparse(one.left)
        and isinstance(one.ops[0], ast.In)
        for one in ast.walk(check)
    )


def test_there_are_tests():
    assert len(TESTS) > 1_000


def test_each_test_checks_something():
    def checks(node: ast.AST) -> bool:
        called = {name.rpartition(".")[2] for name in called_in(node)}
        return (
            bool(asserts_in(node))
            or any(
                name.endswith(CHECKS) or name.startswith(("assert", "wait_for", "django_assert"))
                for name in called
            )
            or any(sign in ast.unparse(node) for sign in ENDS_WELL)
        )

    assert not [name for name, node in TESTS if not checks(node)]


def test_no_test_takes_any_exception_for_the_right_one():
    broad = {"pytest.raises(Exception)", "pytest.raises(BaseException)"}
    calls = ((name, ast.unparse(each)) for name, node in TESTS for each in ast.walk(node)
             if isinstance(each, ast.Call))  # fmt: skip
    assert not [name for name, text in calls if text in broad]


def test_no_test_takes_several_statuses_for_the_right_one():
    assert not [name for name, node in TESTS for check in asserts_in(node) if names_several_statuses(check)]


@pytest.mark.parametrize(
    "text",
    ["assert a.status_code in {200, 404}", "assert client.get('/').status_code in (200, 404)"],
)
def test_several_statuses_are_found_however_they_are_written(text):
    assert names_several_statuses(ast.parse(text).body[0])
