"""Weights that another tool saved, as a bundle: `heimdall bundle FOLDER --recipe NAME --output FILE`.

A bundle is taken in by a server (`manage.py bundle import FILE`) as a completed job, and forks of it begin with these
weights. Read are safetensors files alone: a checkpoint folder of Hugging Face's Trainer, or one file. What is a
pickle (a .ckpt of Lightning, a .bin, a .pt) can run code as it is read: it is refused, with the way around it.
"""

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from heimdall import codec
from heimdall.errors import HeimdallError, InvalidInput
from heimdall.recipes import registry

ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = frozenset({".bin", ".ckpt", ".pkl", ".pt", ".pth"})
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
MOST_INDEX_BYTES = 64 * 1024 * 1024
MOST_NAMED = 5
BUNDLE_FORMAT = 1
AS_SAFETENSORS = (
    "Where it was made, write its weights once more, without pickle: "
    "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
)


def weights_in(place: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, or of the checkpoint folder that Hugging Face's Trainer writes."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = {}
    for path in _files(place):
        try:
            found |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise InvalidInput({"weights": [f"{path} is no whole safetensors file: {error}."]}) from error
    return found


def _files(place: Path) -> list[Path]:
    if place.is_file():
        if place.suffix in PICKLES:
            raise InvalidInput({"weights": [f"{place} is a pickle, which can run code. {AS_SAFETENSORS}"]})
        return [place]
    if (place / ONE_FILE).is_file():
        return [place / ONE_FILE]
    if (place / INDEX).is_file():
        return _parts_of(place / INDEX)
    pickles = [path.name for path in sorted(place.glob("*")) if path.suffix in PICKLES]
    why = (
        f"{pickles[0]} is a pickle, which can run code. {AS_SAFETENSORS}" if pickles else "Name another one."
    )
    raise InvalidInput({"weights": [f"{place} holds neither {ONE_FILE} nor {INDEX}. {why}"]})


def _parts_of(index: Path) -> list[Path]:
    """The files that an index names, beside it and nowhere else."""
    try:
        with index.open("rb") as source:
            names = sorted(set(json.loads(source.read(MOST_INDEX_BYTES))["weight_map"].values()))
        if not all(_is_beside(name) for name in names):
            raise ValueError("it names files elsewhere")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput({"weights": [f"{index} is no index of safetensors files: {error}."]}) from error
    return [index.parent / name for name in names]


def _is_beside(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name and name.endswith(".safetensors")


def fitted(model: torch.nn.Module, found: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The model's state with these weights, each of its name and shape. A wrapper may have prefixed all names.

    A weight that the model has under two names may stand there under one. Raises InvalidInput for all else.
    """
    named = next((each for each in _unprefixed(found) if not _misfits(model, each)), None)
    if named is None:
        misfits = _misfits(model, found)
        more = f" (and {len(misfits) - MOST_NAMED} more)" if len(misfits) > MOST_NAMED else ""
        raise InvalidInput(
            {"weights": [f"They do not fit this recipe's model: {'; '.join(misfits[:MOST_NAMED])}{more}."]}
        )
    model.load_state_dict(named, strict=False)
    return dict(model.state_dict())


def _unprefixed(found: Mapping[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    wrapped = (prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in found))
    return [
        dict(found),
        *({name.removeprefix(prefix): value for name, value in found.items()} for prefix in wrapped),
    ]


def _misfits(model: torch.nn.Module, found: Mapping[str, torch.Tensor]) -> list[str]:
    state = model.state_dict()
    present = {value.data_ptr() for name, value in state.items() if name in found and value.numel()}
    said = [
        f"{name} is missing"
        for name, value in state.items()
        if name not in found and not (value.numel() and value.data_ptr() in present)
    ]
    said += [f"{name} is not of it" for name in found if name not in state]
    return said + [
        f"{name} has the shape {list(value.shape)} and should have {list(state[name].shape)}"
        for name, value in found.items()
        if name in state and value.shape != state[name].shape
    ]


def write_bundle(
    place: Path, target: Path, *, recipe: str, config: Mapping[str, Any], name: str = ""
) -> codec.Saved:
    """Build the recipe's model, put the weights into it, and write both with the config as a bundle."""
    info = registry.get(recipe)
    if info.job_type != "training":
        raise InvalidInput({"recipe": [f"The recipe {recipe} trains no model."]})
    settled = registry.validate(recipe, dict(config))
    found = weights_in(place)
    with tempfile.TemporaryDirectory(prefix="heimdall-") as scratch:
        made = importlib.import_module(f"{info.package}.recipe").Recipe
        checked = info.config_class.model_validate_json(json.dumps(settled))
        state = fitted(made(checked, Path(scratch)).model(), found)
    about = {"bundle": BUNDLE_FORMAT, "recipe": info.package, "recipe_name": recipe, "config": settled}
    about |= {"step": 0, "epoch": 0, "metrics": {}, "job_name": name or f"Weights of {place.name}"}
    return codec.save(target, {"model": state}, about)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="heimdall bundle", description=__doc__)
    parser.add_argument("place", type=Path)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--config", default="{}", type=json.loads)
    parser.add_argument("--name", default="")
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args(words)
    try:
        saved = write_bundle(
            given.place, given.output, recipe=given.recipe, config=given.config, name=given.name
        )
    except HeimdallError as error:
        print(f"heimdall: {error}", file=sys.stderr)
        return 1
    print(
        f"{given.output} is a bundle of {saved.size} bytes. On the server: manage.py bundle import {given.output}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
