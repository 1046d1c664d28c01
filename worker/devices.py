"""Which devices the slots are on. A process of its own asks for GPUs, as NVML stays in who opens it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

from worker.events import Device

SECONDS_TO_ASK = 30
# What of a shared GPU's memory is given to slots; the rest is CUDA's own.
SHARED_MEMORY = 0.9
# What of a slot's memory may be data; the rest is for the model and its batches.
DATA_SHARE = 0.5


@dataclass(frozen=True)
class Gpu:
    """A GPU as NVML sees it."""

    index: int
    name: str
    memory_mb: int


@dataclass(frozen=True)
class Slot:
    """Room for one trainer."""

    number: int
    device: Device
    label: str


def find_gpus() -> list[Gpu]:
    """GPUs of this machine; none where there is no NVIDIA driver."""
    child = [sys.executable, "-m", "worker.nvml"]
    done = subprocess.run(child, capture_output=True, timeout=SECONDS_TO_ASK, check=True)
    return [Gpu(**gpu) for gpu in json.loads(done.stdout)]


def make_slots(gpus: list[Gpu], wanted: int | None, data_mb: int | None = None) -> list[Slot]:
    """One slot a GPU unless another number is wanted; CPU slots share the cores. `data_mb`: see Device."""
    if not gpus:
        count = wanted or 1
        threads = max(1, len(os.sched_getaffinity(0)) // count)
        return [
            Slot(number, Device(kind="cpu", threads=threads, data_mb=data_mb), "cpu")
            for number in range(count)
        ]
    count = wanted or len(gpus)
    return [
        _gpu_slot(number, gpus[number % len(gpus)], _sharing(number, len(gpus), count), data_mb)
        for number in range(count)
    ]


def _sharing(number: int, gpus: int, slots: int) -> int:
    """How many slots are on the GPU of this slot."""
    return len(range(number % gpus, slots, gpus))


def _gpu_slot(number: int, gpu: Gpu, sharing: int, data_mb: int | None) -> Slot:
    limit = int(gpu.memory_mb * SHARED_MEMORY / sharing) if sharing > 1 else None
    data = data_mb or int((limit or gpu.memory_mb) * DATA_SHARE)
    device = Device(kind="gpu", index=gpu.index, memory_limit_mb=limit, data_mb=data)
    return Slot(number, device, f"gpu:{gpu.index} {gpu.name}")
