"""The network as an ONNX file that answers alone: normalisation and refinement are inside the graph.

Needs requirements-export.txt. What the file was trained for stands in its metadata.
"""

import json
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from heimdall.recipes.localization.calibration import Calibration
from heimdall.recipes.localization.evaluate import Trained
from heimdall.recipes.localization.geometry import Network
from heimdall.recipes.localization.network import PLACES, VALUES, LocalizationNetwork, Reports
from heimdall.recipes.localization.random_networks import samples_of
from heimdall.recipes.localization.recipe import RadioSamples
from heimdall.recipes.localization.score import SHARES
from heimdall.recipes.localization.settings import MAX_RECEIVERS

INPUTS = ("values", "places", "detected")
OUTPUTS = (
    "position_km",
    "covariance_km2",
    "unrefined_position_km",
    *(f"ellipse_{100 * share:.0f}_km2" for share in SHARES),
)
OPSET = 18
PARITY_M = 0.01
"""Answers of the file may differ from torch's by so much: a millionth of the area, far below any bound."""


class NoExporter(RuntimeError):
    """A package that the export needs is not installed."""


class NotTheSame(RuntimeError):
    """The exported file does not give the answers of the network."""


@dataclass(frozen=True)
class Parity:
    samples: int
    position_m: float
    """The largest difference of an estimated position."""
    deviation_share: float
    """The largest relative difference of a standard deviation, and of an ellipse's reach east and north."""

    def __str__(self) -> str:
        return (
            f"Largest difference over {self.samples} samples: position {self.position_m:.2g} m, "
            f"standard deviation {self.deviation_share:.2g} of itself."
        )


class Answering(nn.Module):
    """Plain tensors in and out: OUTPUTS.

    An ellipse is a matrix E: it holds what lies at x with (x - position)' E^-1 (x - position) <= 1.
    """

    def __init__(self, network: LocalizationNetwork, calibration: Calibration) -> None:
        super().__init__()
        self.network = network
        everyone = np.arange(MAX_RECEIVERS + 1)
        for number, share in enumerate(SHARES):
            reach = torch.from_numpy(calibration.reach_squared(share, everyone))
            self.register_buffer(f"reach_{number}", reach)

    def forward(self, values: Tensor, places: Tensor, detected: Tensor) -> tuple[Tensor, ...]:
        refined, unrefined = self.network(Reports(values, places, detected))
        covariance = refined.covariance()
        heard = detected.sum(dim=1)
        reaches = (getattr(self, f"reach_{number}")[heard] for number in range(len(SHARES)))
        ellipses = (reach[:, None, None] * covariance for reach in reaches)
        return refined.mean, covariance, unrefined.mean, *ellipses


def answering(trained: Trained) -> Answering:
    return Answering(trained.network, trained.calibration).eval()


def export(trained: Trained, path: Path, *, samples: int = 500) -> Parity:
    """Write the file, answer with it, and compare. A file that answers otherwise is removed."""
    arrays = samples_of(trained.settings, trained.seed).samples(0, samples).arrays
    reports = RadioSamples(Network.of(trained.settings), arrays).all().reports
    _write(trained, reports, path)
    parity = compare(trained, reports, path)
    if parity.position_m > PARITY_M or parity.deviation_share > PARITY_M:
        path.unlink()
        raise NotTheSame(f"The exported file was refused. {parity}")
    return parity


def compare(trained: Trained, reports: Reports, path: Path) -> Parity:
    """The file's answers beside torch's on the same reports."""
    with torch.no_grad():
        wanted = [tensor.numpy() for tensor in answering(trained)(*reports)]
    found = answer(path, *(tensor.numpy() for tensor in reports))
    shares = [_reach(found[place]) / _reach(wanted[place]) for place in (1, *range(3, len(OUTPUTS)))]
    return Parity(
        samples=len(wanted[0]),
        position_m=float(1000.0 * np.linalg.norm(found[0] - wanted[0], axis=1).max()),
        deviation_share=float(np.abs(np.stack(shares) - 1.0).max()),
    )


def answer(path: Path, values: NDArray, places: NDArray, detected: NDArray) -> list[NDArray]:
    """What the file says, in the order of OUTPUTS."""
    runtime = _need("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    given = dict(
        zip(INPUTS, (np.ascontiguousarray(part) for part in (values, places, detected)), strict=True)
    )
    found: list[NDArray] = session.run(list(OUTPUTS), given)
    return found


def _write(trained: Trained, reports: Reports, path: Path) -> None:
    onnx = _need("onnx")
    example = tuple(tensor[:3].contiguous() for tensor in reports)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The other exporter was not done with these unrolled steps after 24 s of processor time; this one takes 4.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            answering(trained),
            example,
            str(Path(folder) / "network.onnx"),
            dynamo=False,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "samples"} for name in (*INPUTS, *OUTPUTS)},
            opset_version=OPSET,
        )
        model = onnx.load(Path(folder) / "network.onnx")
    for name, text in _metadata(trained).items():
        model.metadata_props.add(key=name, value=text)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _reach(matrices: NDArray) -> NDArray:
    """How far an ellipse, or a standard deviation, reaches to the east and to the north, km."""
    return np.sqrt(np.diagonal(matrices, axis1=1, axis2=2))


def _metadata(trained: Trained) -> dict[str, str]:
    about = trained.about
    environment = about.get("environment", {})
    return {
        "heimdall": "localization",
        "values": json.dumps(VALUES),
        "places": json.dumps(PLACES),
        "settings": trained.settings.model_dump_json(),
        "ellipses_calibrated_on": str(trained.calibration.samples),
        "centre": json.dumps(Network.of(trained.settings).centre),
        "trained": json.dumps(
            {name: about.get(name) for name in ("step", "epoch", "val_loss", "created_at")}
        ),
        # What a certificate of the training knows it by.
        "state_digest": str(about.get("digest", "")),
        "data_fingerprint": str(environment.get("data_fingerprint", "")),
    }


def _need(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise NoExporter(f"The export needs {name}: pip install -r requirements-export.txt") from error
