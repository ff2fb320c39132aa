"""The localization recipe on the command line: make datasets, weigh a trained network, take it away."""

from __future__ import annotations

import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from pydantic import ValidationError

from training import bundles, policy, services
from training.errors import HeimdallError
from training.management.commands.job import user_named

RECIPE = "localization"

FRESH_SEED = 2026
"""Not the default seed of any dataset: samples that a network has not seen."""


class Command(BaseCommand):
    help = "Generate RF datasets, evaluate a trained localization network, export it."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

        evaluate = verbs.add_parser(
            "evaluate", help="Print the network beside the classical estimators and the bound."
        )
        evaluate.add_argument("checkpoint", type=Path, help="a checkpoint file of the localization recipe")
        evaluate.add_argument("--samples", type=int, default=20_000, help="how many fresh samples (20000)")
        evaluate.add_argument("--seed", type=int, default=FRESH_SEED, help=f"their seed ({FRESH_SEED})")
        evaluate.add_argument("--threads", type=int, default=0, help="threads of torch (0: torch decides)")
        evaluate.add_argument(
            "--into",
            nargs=2,
            metavar=("FILE", "PLACE"),
            help="also put it into a document, between <!-- evaluate PLACE --> and <!-- end of PLACE -->",
        )
        evaluate.set_defaults(act=self._evaluate)

        generate = verbs.add_parser(
            "generate", help="Make a dataset in a folder, go on with it, or extend it."
        )
        generate.add_argument("folder", type=Path)
        generate.add_argument("--samples", type=int, default=100_000, help="how many in all (100000)")
        generate.add_argument(
            "--samples-per-shard", type=int, default=20_000, help="how many in a file (20000)"
        )
        generate.add_argument("--seed", type=int, default=1, help="the dataset's seed (1)")
        generate.add_argument(
            "--settings", default="{}", help='settings that differ: {"sync_jitter_ns": 30.0}'
        )
        generate.set_defaults(act=self._generate)

        export = verbs.add_parser("export", help="Write the network as an ONNX file and compare its answers.")
        export.add_argument("checkpoint", type=Path, help="a checkpoint file of the localization recipe")
        export.add_argument("file", type=Path, help="the ONNX file to write")
        export.set_defaults(act=self._export)

        bundle = verbs.add_parser(
            "bundle", help="Write a job's best network with all that belongs to it as one file."
        )
        bundle.add_argument("job", type=int, help="the number of a job of the localization recipe")
        bundle.add_argument("file", type=Path, help="the file to write")
        bundle.set_defaults(act=self._bundle)

        take = verbs.add_parser("import", help="Take a bundle of another Heimdall in, as a completed job.")
        take.add_argument("file", type=Path, help="the bundle; it stays where it is")
        take.set_defaults(act=self._import)

        for asked in (bundle, take):
            asked.add_argument(
                "--as",
                dest="user",
                metavar="USER",
                help="who asks (default: $HEIMDALL_USER, else the first administrator)",
            )

    def handle(self, *args: Any, act: Any, **options: Any) -> None:
        try:
            act(options)
        except OSError as error:
            raise CommandError(f"{error.filename or 'file'}: {error.strerror or error}") from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise CommandError(f"{'.'.join(map(str, first['loc'])) or 'settings'}: {first['msg']}") from error
        except (HeimdallError, ValueError, RuntimeError) as error:
            raise CommandError(str(error)) from error

    def _evaluate(self, options: dict[str, Any]) -> None:
        # Torch is for this command alone; the web process must not load it.
        from training.recipes.localization import evaluate

        if options["samples"] < 1:
            raise CommandError("--samples must be at least 1.")
        if options["threads"] > 0:
            evaluate.use_threads(options["threads"])
        trained = evaluate.open_checkpoint(options["checkpoint"])
        if options["seed"] == trained.seed:
            raise CommandError(
                f"The network was trained on samples of seed {trained.seed}; give another --seed."
            )
        found = evaluate.evaluate(
            trained.network,
            trained.settings,
            seed=options["seed"],
            samples=options["samples"],
            calibration=trained.calibration,
        )
        remarks = evaluate.remarks(trained, found, seed=options["seed"])
        text = "\n\n".join([evaluate.table(found), evaluate.about_ellipses(trained, found), remarks])
        self.stdout.write(text)
        if options["into"] is not None:
            file, name = Path(options["into"][0]), options["into"][1]
            file.write_text(evaluate.write_between(file.read_text(), name, text))

    def _generate(self, options: dict[str, Any]) -> None:
        from training.recipes.localization import dataset
        from training.recipes.localization.settings import RadioSettings

        if options["samples"] < 1 or options["samples_per_shard"] < 1:
            raise CommandError("--samples and --samples-per-shard must be at least 1.")
        settings = RadioSettings.model_validate_json(options["settings"])
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
        from training.recipes.localization import evaluate, export

        parity = export.export(evaluate.open_checkpoint(options["checkpoint"]), options["file"])
        self.stdout.write(f"Wrote {options['file']}. {parity}")

    def _bundle(self, options: dict[str, Any]) -> None:
        user, target = user_named(options["user"]), options["file"]
        job = policy.visible_jobs(user).filter(pk=options["job"]).first()
        checkpoint = bundles.best_checkpoint(job) if job else None
        if job is None or job.recipe != RECIPE:
            raise CommandError(f"There is no job {options['job']} of the recipe {RECIPE}.")
        if checkpoint is None:
            raise CommandError(f"Job {job.pk} has no checkpoint yet.")
        written = bundles.write(checkpoint, settings.SCRATCH_DIR)
        try:
            shutil.copyfile(written, target)
        finally:
            written.unlink()
        self.stdout.write(
            f"Wrote {target}: job {job.pk} at step {checkpoint.step}, epoch {checkpoint.epoch}, "
            f"{target.stat().st_size} bytes."
        )

    def _import(self, options: dict[str, Any]) -> None:
        user = user_named(options["user"])
        settings.SCRATCH_DIR.mkdir(parents=True, exist_ok=True)
        copy = settings.SCRATCH_DIR / f"import-{uuid.uuid4().hex}.safetensors"
        try:
            shutil.copyfile(options["file"], copy)
            result = services.import_bundle(copy, by=user)
        finally:
            copy.unlink(missing_ok=True)
        self.stdout.write(result.message)
