"""What a training stands on beside its state: device, threads, torch, data, source. Found once and kept."""

import hashlib
import platform
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch._dynamo
from torch import nn

from heimdall.engine.errors import Refused


def choose_device(asked: str, pinned: Mapping[str, Any]) -> torch.device:
    """The device that the job asks for, or the one it took first."""
    kept = asked if asked != "auto" else pinned.get("device", "auto")
    has_cuda = torch.cuda.is_available()
    if asked == "cuda" and not has_cuda:
        raise Refused("no_device", "The job asks for a CUDA device, and there is none here.")
    return torch.device("cuda" if kept in ("auto", "cuda") and has_cuda else "cpu")


def set_threads(threads: int | None, *, processes: int = 1) -> int:
    """Keep the number of threads that the job was given first: sums depend on it. Processes of one host divide its
    cores."""
    if threads is None and processes > 1:
        threads = max(1, torch.get_num_threads() // processes)
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def set_determinism(deterministic: bool) -> None:
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic


def describe(
    device: torch.device,
    *,
    threads: int,
    precision: str,
    deterministic: bool,
    fingerprint: str,
    recipe_digest: str,
    compiled: bool = False,
) -> dict[str, Any]:
    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name() if device.type == "cuda" else _processor(),
        "torch": torch.__version__,
        "threads": threads,
        "precision": precision,
        "deterministic": deterministic,
        "python": platform.python_version(),
        "world_size": 1,
        "data_fingerprint": fingerprint,
        "recipe_digest": recipe_digest,
        "compiled": compiled,
    }


def is_compiled(model: nn.Module) -> bool:
    """Whether torch.compile has a say: what it makes for a batch depends on the batches that it saw before."""
    return any(
        isinstance(module, torch._dynamo.OptimizedModule) or module._compiled_call_impl is not None
        for module in model.modules()
    )


def check_data(now: Mapping[str, Any], pinned: Mapping[str, Any]) -> None:
    first = pinned.get("data_fingerprint")
    if first is not None and first != now["data_fingerprint"]:
        raise Refused(
            "data_changed",
            f"The data has changed since the training began: its fingerprint was {first[:12]} "
            f"and is {now['data_fingerprint'][:12]}. Bring the old data back, or start a new job.",
        )


def why_approximate(now: Mapping[str, Any], pinned: Mapping[str, Any]) -> list[str]:
    """Why the rest may differ from an undisturbed training in the last bits. Each is read after "because"."""
    if not pinned:
        return []
    reasons = [] if now["deterministic"] else ["deterministic algorithms are turned off"]
    if now.get("compiled"):
        reasons.append("the model is compiled: torch may make other kernels in a new process")
    # Any number of devices gives an elastic training the same bits.
    indifferent = {"world_size", "backend"} if now.get("logical_ranks") else set()
    for key, name in _NAMES.items():
        if key in indifferent:
            continue
        if key in pinned and key in now and pinned[key] != now[key]:
            reasons.append(f"{name} was {pinned[key]} and is now {now[key]}")
    if pinned.get("recipe_digest", now["recipe_digest"]) != now["recipe_digest"]:
        reasons.append("the source of the recipe has changed")
    return reasons


def digest_of_source(package: ModuleType) -> str:
    """SHA-256 over the package's Python files, by name."""
    digest = hashlib.sha256()
    for folder in map(Path, package.__path__):
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


_NAMES = {
    "device": "the device",
    "device_name": "the processor",
    "torch": "torch",
    "threads": "the number of threads",
    "world_size": "the number of devices",
    "logical_ranks": "the number of logical ranks",
    "backend": "what joins the devices",
    "nccl": "NCCL",
    "precision": "the precision",
}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
