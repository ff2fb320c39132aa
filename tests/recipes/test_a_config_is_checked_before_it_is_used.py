"""The registry takes what a demanding user would take, and says of the rest which field has to change and how."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from heimdall import GenerationConfig, TrainingConfig
from heimdall.errors import InvalidConfig, UnknownRecipe
from heimdall.recipes import registry

NAME = "language_model"


def test_an_empty_config_gets_every_default() -> None:
    config = registry.validate(NAME, {})
    assert list(config) == list(registry.schema(NAME)["properties"])
    assert registry.validate(NAME, config) == config
    assert registry.validate(NAME, {"seed": 0, "validation_split": 0, "learning_rate": 1}) == config | {
        "validation_split": 0.0,
        "learning_rate": 1.0,
    }


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("epochs", 0, "epochs must be a whole number from 1 to 100000, not 0."),
        ("epochs", True, "epochs must be a whole number from 1 to 100000, not true."),
        ("epochs", "3", 'epochs must be a whole number from 1 to 100000, not "3".'),
        ("epochs", 3.5, "epochs must be a whole number from 1 to 100000, not 3.5."),
        ("epochs", None, "epochs must be a whole number from 1 to 100000, not null."),
        ("epochs", 10**9, "epochs must be a whole number from 1 to 100000, not 1000000000."),
        ("learning_rate", float("nan"), "learning_rate must be a number above 0 and at most 10, not NaN."),
        (
            "learning_rate",
            float("inf"),
            "learning_rate must be a number above 0 and at most 10, not Infinity.",
        ),
        ("deterministic", 1, "deterministic must be true or false, not 1."),
        ("optimizer", "lion", 'optimizer must be one of adamw, adam, sgd, not "lion".'),
        ("text_folder", 3, "text_folder must be a text of at most 1000 characters, not 3."),
        ("layers", 10**9, "layers must be a whole number from 1 to 64, not 1000000000."),
        ("warmup_epochs", 21, "warmup_epochs must not exceed epochs (20)."),
        ("width", 6, "width must be a multiple of heads (4)."),
        ("epoch", 3, "epoch is not a field of this recipe; did you mean epochs?"),
    ],
)
def test_a_refusal_names_the_field_and_the_remedy(field: str, value: Any, sentence: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        registry.validate(NAME, {field: value})
    assert caught.value.fields == {field: [sentence]}


def test_each_wrong_field_is_named() -> None:
    with pytest.raises(InvalidConfig) as caught:
        registry.validate(NAME, {"epochs": -1, "seed": -1, "nonsense": {}})
    assert set(caught.value.fields) == {"epochs", "seed", "nonsense"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"width": 8192, "layers": 64}, "width"),
        ({"batch_size": 65_536, "context_length": 4096}, "batch_size"),
        ({"max_chars": 1000, "context_length": 4096, "batch_size": 1}, "max_chars"),
    ],
)
def test_a_config_that_would_fill_the_memory_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        registry.validate(NAME, changes)
    assert set(caught.value.fields) == {field}


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize(
    "raw",
    [
        [],
        None,
        "epochs",
        {"epochs": _deep(100_000)},
        {"epochs": 10**5000},
        {"text_folder": "x" * 10**6},
        {"text_folder": "\ud800"},
        {str(number): 1 for number in range(100_000)},
        {3: 4},
        {"epochs": {1, 2}},
        {"epochs": float("-inf")},
    ],
    ids=lambda raw: type(raw).__name__,
)
def test_what_is_no_config_at_all_is_refused(raw: Any) -> None:
    with pytest.raises(InvalidConfig):
        registry.validate(NAME, raw)


_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)
_FIELDS = st.sampled_from([*TrainingConfig.model_fields, "width", "heads", "text_folder"])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.one_of(_FIELDS, st.text()), _JSON, max_size=4))
def test_whatever_comes_is_taken_or_refused(raw: dict[str, Any]) -> None:
    try:
        config = registry.validate(NAME, raw)
    except InvalidConfig as refusal:
        fields = refusal.fields
    else:
        assert registry.validate(NAME, config) == config
        return
    assert fields
    assert all(messages and all(messages) for messages in fields.values())


def test_a_form_can_be_made_from_the_schema() -> None:
    schema = registry.schema(NAME)
    assert schema["title"] == "Language model"
    for name, field in schema["properties"].items():
        assert field["title"], name
        assert field["description"].endswith("."), name
        assert field["group"], name
        assert "default" in field, name
        kinds = {each["type"] for each in field.get("anyOf", [field])}
        assert kinds <= {"integer", "number", "boolean", "string"}
        if field.get("type") in {"integer", "number"}:
            assert {"minimum", "exclusiveMinimum"} & set(field), name
            assert {"maximum", "exclusiveMaximum"} & set(field), name
    assert schema["properties"]["optimizer"]["enum"] == ["adamw", "adam", "sgd"]
    assert list(schema["properties"])[:4] == ["epochs", "batch_size", "drop_last", "learning_rate"]


def test_the_memory_is_estimated_without_torch() -> None:
    code = """
import sys
from heimdall.recipes import registry
info = registry.get("language_model")
small, large = (registry.validate(info.name, raw) for raw in ({}, {"width": 512, "layers": 8}))
assert 10**8 < info.estimate_memory_bytes(small) < info.estimate_memory_bytes(large) < 10**10
registry.schema(info.name)
assert not {"torch", "django"} & set(sys.modules)
"""
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=root)


def test_shards_are_bounded() -> None:
    with pytest.raises(ValueError, match="samples_per_shard must be at least 10000"):
        GenerationConfig(samples=10**9, samples_per_shard=1)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """own("name", config=...): a package that a user wrote, known by HEIMDALL_RECIPES."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, config: str, *, recipe: bool = True) -> None:
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "config.py").write_text(config)
        if recipe:
            (package / "recipe.py").touch()
        monkeypatch.setenv("HEIMDALL_RECIPES", name)

    return write


GOOD = "from heimdall import TrainingConfig, shared\nclass Config(TrainingConfig):\n"


def test_a_recipe_of_the_users_stands_beside_the_shipped_ones(own) -> None:
    own("house_prices", GOOD + '    epochs: int = shared("epochs", 3)\n')
    assert registry.names()[0] == "language_model"
    assert registry.names()[-1] == "house_prices"
    assert registry.problems() == []
    info = registry.get("house_prices")
    assert (info.title, info.job_type, info.package) == ("House prices", "training", "house_prices")
    assert registry.validate("house_prices", {})["epochs"] == 3
    assert registry.schema("house_prices")["properties"]["epochs"]["maximum"] == 100_000


@pytest.mark.parametrize(
    ("name", "config", "says"),
    [
        ("bad_a", "raise OSError('no disk')", "cannot be imported"),
        ("bad_b", "x = 1", "needs a class Config"),
        ("bad_c", "JOB_TYPE = 'dream'", "JOB_TYPE"),
        (
            "bad_d",
            "from heimdall import TrainingConfig as Config\nJOB_TYPE='synthetic_data'",
            "Config",
        ),
        ("bad_e", GOOD + "    epochs: int = shared('epochs', 0)\n", "defaults"),
    ],
)
def test_a_package_that_is_no_recipe_is_told_and_hurts_nobody(name: str, config: str, says: str, own) -> None:
    own(name, config)
    assert len(registry.problems()) == 1
    assert says in registry.problems()[0]
    assert name in registry.problems()[0]
    with pytest.raises(registry.BadRecipe):
        registry.get(name)
    assert registry.validate(NAME, {})


def test_a_recipe_needs_its_recipe_module(own) -> None:
    own("half_a_recipe", GOOD + "    pass\n", recipe=False)
    assert "half_a_recipe.recipe is missing" in registry.problems()[0]


@pytest.mark.parametrize("text", ["not a name!", "a.language_model", "a..b", "../etc"])
def test_a_bad_variable_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEIMDALL_RECIPES", text)
    assert registry.problems()[0].startswith("HEIMDALL_RECIPES")


@pytest.mark.parametrize("text", ["wave_that_is_nowhere", "wave_that_is_nowhere.deeper"])
def test_a_package_that_is_not_there_is_told_with_the_remedy(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEIMDALL_RECIPES", text)
    says = f"HEIMDALL_RECIPES: there is no package {text}. Is the folder above it in PYTHONPATH?"
    assert registry.problems() == [says]


@pytest.mark.parametrize("name", ["", "nothing", "../language_model", None, "config"])
def test_an_unknown_recipe_is_refused_with_those_that_there_are(name: Any) -> None:
    with pytest.raises(UnknownRecipe, match="language_model"):
        registry.get(name)


def test_a_config_that_imports_torch_is_refused(own) -> None:
    own("heavy", "import torch\n" + GOOD + "    pass\n")
    code = "from heimdall.recipes import registry; print(registry.problems())"
    path = next(item for item in sys.path if (Path(item) / "heavy").is_dir())
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r}); {code}"],
        check=True,
        timeout=60,
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert "imports torch" in done.stdout
