"""`from heimdall import ...` gives a recipe's author everything, and loads only what was asked for."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import heimdall

ROOT = Path(__file__).parents[1]


def loaded_after(code: str) -> set[str]:
    """The roots of all modules of a fresh Python that has run this."""
    end = "; import sys; print(' '.join(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", code + end], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("name", heimdall.__all__)
def test_a_public_name_is_the_thing_itself(name):
    assert getattr(heimdall, name) is getattr(import_module(heimdall._HOMES[name]), name)


def test_the_list_of_names_is_the_table_of_their_homes():
    assert set(heimdall.__all__) == set(heimdall._HOMES)


@pytest.mark.parametrize(
    ("code", "without"),
    [
        ("import heimdall", {"torch", "django", "pydantic", "numpy", "training"}),
        ("from heimdall import TrainingConfig, in_group, refuse, shared", {"torch", "django", "training"}),
        ("import heimdall.recipes.localization.config", {"torch", "django", "training"}),
        ("from heimdall import TrainingRecipe", {"django", "training"}),
    ],
)
def test_a_name_loads_no_more_than_it_needs(code, without):
    assert not loaded_after(code) & without


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(AttributeError, match=r"heimdall has no 'TrainingRecepie'; it has .*TrainingRecipe"):
        _ = heimdall.TrainingRecepie


def test_shipped_recipes_and_the_example_use_the_one_import():
    texts = [path.read_text() for path in (ROOT / "heimdall/recipes").glob("*/*.py")]
    texts.append((ROOT / "docs/recipes.md").read_text())
    for text in texts:
        assert "from heimdall.recipes.base import" not in text
        assert "from heimdall.recipes.config import" not in text
    assert sum("from heimdall import" in text for text in texts) >= 7
