"""Answers of a process of its own: reports on the standard input, JSON lines on the standard output.

    python -m heimdall.recipes.localization.locating CHECKPOINT < reports.csv

The first line says what is coming: {"transmissions": n, "network": {...}}, or {"refused": {field: [messages]}}. Then
comes a line for each transmission, and {"end": true} where all of them are there.

With --config before the checkpoint the one line is {"config": {...}}: a training for the receivers of the reports.
"""

import json
import sys
from pathlib import Path
from typing import Any

from heimdall.errors import InvalidInput
from heimdall.recipes.localization import evaluate
from heimdall.recipes.localization.locating import reports
from heimdall.recipes.localization.locating.locator import Locator
from heimdall.recipes.localization.locating.suggestion import suggested_config
from heimdall.recipes.localization.locating.tables import BadReports


def main(checkpoint: Path, *, wants_config: bool = False) -> None:
    evaluate.use_threads(1)
    trained = evaluate.open_checkpoint(checkpoint)
    try:
        transmissions = reports.read(sys.stdin.buffer.read(), trained.settings)
    except BadReports as error:
        return _write({"refused": error.fields})
    if wants_config:
        return _write(_config(transmissions, trained))
    _write({"transmissions": len(transmissions), "network": about(trained)})
    for answer in Locator(trained).locate(transmissions):
        _write(answer)
    return _write({"end": True})


def _config(transmissions: list[reports.Transmission], trained: evaluate.Trained) -> dict[str, Any]:
    try:
        return {"config": suggested_config(transmissions, trained.settings)}
    except InvalidInput as error:
        return {"refused": error.fields}


def about(trained: evaluate.Trained) -> dict[str, Any]:
    """Which network answers, and for which receivers it is: for none in particular where networks were drawn."""
    settings = trained.settings
    receivers = [] if settings.is_random else [one.model_dump(mode="json") for one in settings.receivers]
    return {
        "networks": settings.networks,
        "receivers": receivers,
        "frequency_mhz": trained.settings.frequency_mhz,
        "late_arrivals": trained.settings.late_arrivals,
        "epoch": trained.about.get("epoch"),
        "ellipses_calibrated_on": trained.calibration.samples,
    }


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[-1]), wants_config="--config" in sys.argv[1:-1])
