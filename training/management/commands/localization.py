"""The localization recipe on the command line: make datasets, measure a trained network, export it."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from heimdall.recipes import registry
from heimdall.recipes.localization.locating import geographic, suggestion
from training import policy
from training.errors import NotFound
from training.management import config_options
from training.management.base import VerbCommand, whole, whole_from_1
from training.models import Dataset
from training.services.locating import best_network
from training.store import checkpoints, datasets

FRESH_SEED = 2026
"""Not the default seed of any dataset: samples that a network has not seen."""


class Command(VerbCommand):
    help = "Generate RF datasets, evaluate a trained localization network, export it, locate with it."

    def add_verbs(self) -> None:
        does = "Print the network beside the classical estimators and the bound"
        _evaluate_options(self.add_verb_for_all("evaluate", does, self._evaluate))
        does = "Make a dataset in a folder, go on with it, or extend it"
        _generate_options(self.add_verb_for_all("generate", does, self._generate))
        does = "Write the network as an ONNX file and compare its answers"
        export = self.add_verb_for_all("export", does, self._export)
        export.add_argument("checkpoint", type=Path, help="a checkpoint file of the localization recipe")
        export.add_argument("file", type=Path, help="the ONNX file to write")

        does = "Locate transmitters from a file of reports of receivers"
        _locate_options(self.add_verb("locate", does, self._locate))

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            super().handle(*args, **options)
        except OSError as error:
            raise CommandError(f"{error.filename or 'file'}: {error.strerror or error}") from error
        except (ValueError, RuntimeError) as error:
            raise CommandError(str(error)) from error

    def _evaluate(self, options: dict[str, Any]) -> None:
        # Torch is for this command alone; the web process must not load it.
        from heimdall.recipes.localization import evaluate

        if options["threads"] > 0:
            evaluate.use_threads(options["threads"])
        trained = _trained(options["checkpoint"])
        text = "\n\n".join(_unseen(trained, options) if options["unseen"] else _measured(trained, options))
        self.stdout.write(text)
        if options["into"] is not None:
            file, name = Path(options["into"][0]), options["into"][1]
            file.write_text(evaluate.write_between(file.read_text(), name, text))

    def _generate(self, options: dict[str, Any]) -> None:
        from heimdall.recipes.localization import dataset
        from heimdall.recipes.localization.settings import RadioSettings

        settings = registry.checked(RadioSettings, config_options.read(options))
        before = dataset.samples_in(options["folder"])
        start, cpu_start = time.monotonic(), time.process_time()
        manifest = dataset.generate(
            options["folder"],
            settings,
            options["seed"],
            samples=options["samples"],
            samples_per_shard=options["samples_per_shard"],
            on_shard=lambda so_far: self.stdout.write(f"{so_far.samples} samples"),
        )
        made = manifest.samples - before
        seconds, cpu_seconds = time.monotonic() - start, time.process_time() - cpu_start
        self.stdout.write(
            f"Made {made} samples in {seconds:.1f} s: "
            f"{made / max(cpu_seconds, 1e-9):.0f} a second of one core's time."
        )
        refused = ", ".join(
            f"{reason.replace('_', ' ')} {count}" for reason, count in manifest.refused.items()
        )
        self.stdout.write(f"Refused tries: {refused}. Fingerprint {manifest.fingerprint()}.")

    def _export(self, options: dict[str, Any]) -> None:
        from heimdall.recipes.localization import export

        parity = export.export(_trained(options["checkpoint"]), options["file"])
        self.stdout.write(f"Wrote {options['file']}. {parity}")

    def _locate(self, options: dict[str, Any]) -> None:
        from heimdall.recipes.localization.locating import reports
        from heimdall.recipes.localization.locating.locator import Locator

        raw = options["reports"].read_bytes()
        with self._network(options["network"]) as trained:
            sent = reports.read(raw, trained.settings)
            if options["config"]:
                self.stdout.write(json.dumps(suggestion.suggested_config(sent, trained.settings), indent=2))
                return
            answers = Locator(trained).locate(sent)
            if options["output"] == "table":
                self._say_all(answers, quiet=options["as_json"])
            else:
                for piece in _WRITERS[options["output"]](answers):
                    self.stdout.write(piece, ending="")

    def _say_all(self, answers: Iterator[dict[str, Any]], *, quiet: bool) -> None:
        synced = False
        for answer in answers:
            self.say(answer, _sentence(answer))
            synced = synced or answer["synced"]
        if synced and not quiet:
            self.stdout.write("The clocks were corrected by the beacons.")

    @contextmanager
    def _network(self, named: str) -> Iterator[Any]:
        """Of a checkpoint file or a bundle, else of the job of this number."""
        if not named.isdigit() or Path(named).exists():
            yield _trained(Path(named))
            return
        job = policy.visible_jobs(self.user).filter(pk=int(named)).first()
        if job is None:
            raise NotFound(f"There is no job {named}.")
        local = checkpoints.fetch(best_network(job, by=self.user), settings.SCRATCH_DIR)
        try:
            yield _trained(local)
        finally:
            local.unlink(missing_ok=True)


def _sentence(answer: dict[str, Any]) -> str:
    """A line for the position, and its notes under it."""
    place, notes = answer["position"], "".join(f"\n    {note}" for note in answer["notes"])
    if place is None:
        return f"{answer['transmission']}: {answer['status'].replace('_', ' ')}{notes}"
    sizes = [f"{one['semi_major_m']:.0f} x {one['semi_minor_m']:.0f} m" for one in answer["ellipses"]]
    bearing = answer["ellipses"][0]["bearing_deg"]
    return (
        f"{answer['transmission']}: {place['latitude']:.5f}, {place['longitude']:.5f} by the {answer['by']}, "
        f"{answer['status']}; 68 % within {sizes[0]}, 95 % within {sizes[1]}, long axis at {bearing:.0f} degrees"
        f"{notes}"
    )


def _locate_options(parser: CommandParser) -> None:
    parser.add_argument("network", help="a completed job's number, or a checkpoint file or a bundle")
    parser.add_argument("reports", type=Path, help="CSV or JSON, one line a receiver and transmission")
    parser.add_argument(
        "--output",
        choices=("table", *_WRITERS),
        default="table",
        help="what is printed (table; see also --json)",
    )
    parser.add_argument(
        "--config",
        action="store_true",
        help="print the settings of a training for these receivers instead of locating anything",
    )


_WRITERS: dict[str, Callable[[Iterator[dict[str, Any]]], Iterator[str]]] = {
    "geojson": geographic.geojson,
    "kml": geographic.kml,
}


def _evaluate_options(parser: CommandParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="a checkpoint file of the localization recipe")
    parser.add_argument("--samples", type=whole_from_1, default=20_000, help="how many fresh samples (20000)")
    parser.add_argument("--seed", type=whole, default=FRESH_SEED, help=f"their seed ({FRESH_SEED})")
    parser.add_argument(
        "--test-part",
        action="store_true",
        help="instead of fresh samples those that the training kept aside (its test_split)",
    )
    parser.add_argument(
        "--kinds",
        action="store_true",
        help="also print what the ellipses hold of each kind of station, and by number of receivers",
    )
    parser.add_argument(
        "--each",
        type=whole_from_1,
        metavar="SAMPLES",
        default=10_000,
        help="with --kinds: as many of each number of receivers as can be drawn, at most (10000)",
    )
    parser.add_argument(
        "--unseen",
        action="store_true",
        help="instead print what the network answers for receivers that it was not trained with",
    )
    parser.add_argument(
        "--reference",
        type=whole_from_1,
        metavar="SAMPLES",
        help="also compare the first so many samples with the Bayes-optimal reference (up to 0.1 s each); with "
        "--unseen so many of each layout",
    )
    parser.add_argument("--threads", type=whole, default=0, help="threads of torch (0: torch decides)")
    parser.add_argument(
        "--into",
        nargs=2,
        metavar=("FILE", "PLACE"),
        help="also put it into a document, between <!-- evaluate PLACE --> and <!-- end of PLACE -->",
    )


def _generate_options(parser: CommandParser) -> None:
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=whole_from_1, default=100_000, help="how many in all (100000)")
    parser.add_argument(
        "--samples-per-shard", type=whole_from_1, default=20_000, help="how many in a file (20000)"
    )
    parser.add_argument("--seed", type=whole, default=1, help="the dataset's seed (1)")
    config_options.add_to(parser)


def _measured(trained: Any, options: dict[str, Any]) -> list[str]:
    """The network beside everything else, in paragraphs."""
    from heimdall.recipes.localization import evaluate

    seed = None if options["test_part"] else options["seed"]
    if seed == trained.seed:
        raise CommandError(f"The network was trained on samples of seed {seed}; give another --seed.")
    if seed is None:
        arrays = _test_part(trained)
    else:
        arrays = evaluate.fresh_samples(trained.settings, seed=seed, samples=options["samples"])
    found = evaluate.evaluate(trained.network, trained.settings, arrays, calibration=trained.calibration)
    compared = _compared(trained, found, arrays, options["reference"]) if options["reference"] else None
    pieces = [evaluate.table(found, compared.rows if compared else ())]
    pieces.append(evaluate.remarks(trained, found, seed=seed))
    pieces += [compared.text] if compared else []
    pieces.append(evaluate.about_ellipses(found))
    if options["kinds"]:
        pieces.append(evaluate.table_of_kinds(found, arrays))
        pieces.append(evaluate.table_of_numbers(trained, _unused_seed(trained, seed), options["each"]))
    return pieces


def _compared(trained: Any, found: Any, arrays: Any, samples: int) -> Any:
    from heimdall.recipes.localization.reference import table

    return table.compare(trained.settings, found, arrays, samples)


def _unseen(trained: Any, options: dict[str, Any]) -> list[str]:
    from heimdall.recipes.localization import evaluate, unseen

    rows = list(unseen.rows(trained, options["reference"] or 0))
    return [unseen.table_of(rows), evaluate.about_training(trained)]


def _unused_seed(trained: Any, seed: int | None) -> int:
    """The ellipses' sizes are of samples that were drawn with the training's own seed."""
    return next(one for one in (seed, FRESH_SEED, FRESH_SEED + 1) if one not in (None, trained.seed))


def _trained(path: Path) -> Any:
    from heimdall.recipes.localization import evaluate

    try:
        return evaluate.open_checkpoint(path)
    except ValueError as error:
        raise CommandError(f"{path} is of no use here: {error}") from error


def _test_part(trained: Any) -> Any:
    """The samples that a training kept aside; those of a dataset are brought as they are for a trainer."""
    from heimdall.recipes.localization import evaluate

    with tempfile.TemporaryDirectory() as scratch:
        name = trained.config.dataset
        row = Dataset.objects.filter(name=name).first() if name else None
        if row is not None:
            datasets.bring(row, Path(scratch) / "datasets")
        elif name:
            raise CommandError(f"The dataset {name} is not here; leave out --test-part.")
        return evaluate.test_part(trained, Path(scratch))
