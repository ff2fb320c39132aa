"""A slot's GPU is the same one for the pages, which ask the driver, and for the trainer, which asks CUDA."""

import ctypes.util

import pynvml
import pytest

from heimdall.trainer import launch
from training import hardware
from training.runner import start


@pytest.mark.parametrize("gpu", [1, "MIG-5c5a7f7d-0c4c-5b1f-8d0f-5d5b6b3e0b1a"])
def test_a_trainer_sees_its_gpu_alone_in_the_order_of_the_driver(gpu, tmp_path):
    own = launch.own_environment(launch.TrainerSpec("some.recipe", {}, str(tmp_path), gpus=[gpu]))
    assert (own["CUDA_VISIBLE_DEVICES"], own["CUDA_DEVICE_ORDER"]) == (str(gpu), "PCI_BUS_ID")


@pytest.mark.parametrize(("gpus", "slot", "seen"), [([4, 5], 1, "5"), ([4], 1, ""), ([], 0, None)])
def test_a_slot_beyond_the_last_gpu_takes_no_other_slots(gpus, slot, seen, settings, make_job, tmp_path):
    """On a machine where none was found CUDA may know better than we do."""
    settings.GPUS = gpus
    attempt = make_job(status="running").attempts.select_related("job").get()
    attempt.slot = slot
    folders = {"folder": None, "staging": tmp_path, "scratch": tmp_path}
    spec = start.spec(attempt, package="some.recipe", python="", checkpoint=None, **folders)
    own = launch.own_environment(spec)
    assert own.get("CUDA_VISIBLE_DEVICES") == seen


@pytest.mark.skipif(bool(ctypes.util.find_library("nvidia-ml")), reason="there is a driver here")
def test_a_machine_without_the_driver_has_no_gpus_and_its_own_memory(settings):
    settings.GPUS, settings.SLOTS = [0], 2
    assert hardware.gpus() == []
    assert [one["device"] for one in hardware.devices()] == ["cuda:0", "cpu"]
    hardware.memory_bytes.cache_clear()
    assert hardware.memory_bytes() == hardware.load()["memory_total"]


def test_every_call_to_the_driver_is_one_that_its_library_has():
    asking = (hardware._gpu, hardware._busy_percent, hardware.versions)
    asked = {name for one in asking for name in one.__code__.co_names if name.startswith(("nvml", "NVML"))}
    assert {"nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByUUID", "nvmlDeviceGetMemoryInfo"} <= asked
    assert [name for name in asked if not callable(getattr(pynvml, name, None))] == []
