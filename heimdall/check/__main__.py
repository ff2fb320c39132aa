"""`python -m heimdall.check -- python train.py --lr 3e-4`: is this program resumed exactly?

`python -m heimdall.check --recipe language_model` asks the same of a recipe.

Exit codes: 0 exact, 1 not exact, 2 not checked.
"""

import argparse
import ast
import importlib.util
import json
import os
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from heimdall.attached.program import Program
from heimdall.check.checking import NOT_CHECKED, STEPS, CheckResult, check
from heimdall.check.rehearsal import Rehearsal
from heimdall.check.report import as_text
from heimdall.errors import InvalidInput, UnknownRecipe
from heimdall.recipes import registry
from heimdall.recipes.registry import BadRecipe, checked
from heimdall.trainer.protocol import TrainerSpec
from heimdall.trainer.warm import WarmLauncher

RESULT_MARK = "heimdall-check-result "
SCRIPT_DRIVER = "heimdall.attached.script"
# What takes seconds to import, by the name under which a script imports it.
FRAMEWORKS = {
    "accelerate": "accelerate",
    "lightning": "lightning.pytorch",
    "pytorch_lightning": "pytorch_lightning",
    "transformers": "transformers.trainer",
}


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    word = os.environ.pop("HEIMDALL_CHECK_WORD", "")  # the script is to know it as little as the settings
    try:
        spec, preload = _of_recipe(options) if options.recipe else _of_program(options)
    except (InvalidInput, UnknownRecipe, BadRecipe) as error:
        print(f"heimdall check: {error}", file=sys.stderr)
        return 2
    result = _checked(spec, preload, options)
    print(json.dumps(result.as_dict(), indent=2) if options.json else as_text(result), end="")
    if options.report:
        # On a screen, what follows the \r stands in its place.
        print(f"{RESULT_MARK}{word} {json.dumps(result.as_dict())}\rThe result was kept.", flush=True)
        return 0
    return 0 if result.is_exact else 2 if result.verdict == NOT_CHECKED else 1


def _of_program(options: argparse.Namespace) -> tuple[TrainerSpec, list[str]]:
    """The script in this folder, and what a server that starts it again and again imports once."""
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    program = checked(Program, {"command": command, "kind": "script", "hook": options.hook})
    spec = TrainerSpec(
        package="",
        config=_config(options),
        staging="",
        driver=SCRIPT_DRIVER,
        folder=str(Path.cwd()),
        program={"program": program.model_dump(mode="json"), "code": ""},
    )
    return spec, [SCRIPT_DRIVER, *frameworks_of(program)]


def _of_recipe(options: argparse.Namespace) -> tuple[TrainerSpec, list[str]]:
    """The recipe, shipped or of HEIMDALL_RECIPES, with this config over its defaults."""
    if options.command or options.hook:
        raise InvalidInput({"recipe": ["Give a recipe or a command, not both."]})
    info = registry.get(options.recipe)
    if info.job_type != "training":
        raise InvalidInput(
            {"recipe": [f"{info.name} makes data and trains nothing: there is nothing to stop in."]}
        )
    return TrainerSpec(info.package, registry.validate(info.name, _config(options)), ""), [info.package]


def _config(options: argparse.Namespace) -> dict[str, Any]:
    try:
        config = json.loads(options.config or "{}")
    except ValueError as error:
        raise InvalidInput({"config": [f"This is not JSON: {error}."]}) from error
    if not isinstance(config, dict):
        raise InvalidInput({"config": ["Give an object of fields and values."]})
    return config


def _checked(spec: TrainerSpec, preload: list[str], options: argparse.Namespace) -> CheckResult:
    def say(sentence: str) -> None:
        if not options.json:
            print(f"  ... {sentence}", flush=True)

    with (
        tempfile.TemporaryDirectory(prefix="heimdall-check-") as folder,
        closing(WarmLauncher(preload=preload)) as launcher,
    ):
        rehearsal = Rehearsal(replace(spec, scratch=folder), Path(folder), launcher=launcher)
        return check(rehearsal, steps=options.steps, seed=options.seed, say=say)


def frameworks_of(program: Program, folder: Path | None = None) -> list[str]:
    """What a server that starts the program again and again imports once."""
    script = (folder or Path.cwd()) / program.directory / str(program.script)
    try:
        tree = ast.parse(script.read_text())
    except (OSError, SyntaxError, ValueError):
        return []  # the first attempt says what is the matter with it
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    used = {name.partition(".")[0] for name in names} & set(FRAMEWORKS)
    return [FRAMEWORKS[name] for name in sorted(used) if importlib.util.find_spec(name)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="heimdall check", description="Is this program resumed exactly?")
    parser.add_argument("--steps", type=int, default=STEPS, help="how many optimizer steps are trained")
    parser.add_argument("--seed", type=int, default=0, help="of the steps after which it is stopped")
    parser.add_argument("--recipe", default="", help="check this recipe, in the place of a command")
    parser.add_argument("--config", default="", help="what job.config gives, or a recipe's fields, as JSON")
    parser.add_argument(
        "--hook", default="", choices=["hugging_face", "lightning"], help="attach its Trainer"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--report",
        action="store_true",
        help="for servers: the result as the last line, and exit code 0 with any",
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- python train.py ...")
    return parser


if __name__ == "__main__":
    sys.exit(main())
