"""Set TensorFlow up for the one device of this process, before its first operation."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from worker.events import Device


@dataclass(frozen=True)
class Place:
    """Where this process computes."""

    name: str
    threads: int
    is_gpu: bool


def set_up(device: Device) -> Place:
    """Fix the thread pools and the device's memory; raises RuntimeError if TensorFlow has run already."""
    threads = device.threads or _usable_cores()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    if device.kind == "cpu":
        return Place(f"cpu: {_cpu_name()}", threads, is_gpu=False)
    return Place(_set_up_gpu(device), threads, is_gpu=True)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _set_up_gpu(device: Device) -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        raise OSError(f"GPU {device.index} of this slot cannot be used by TensorFlow.")
    if device.memory_limit_mb is None:
        tf.config.experimental.set_memory_growth(gpus[0], True)
    else:
        limit = tf.config.LogicalDeviceConfiguration(memory_limit=device.memory_limit_mb)
        tf.config.set_logical_device_configuration(gpus[0], [limit])
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "unknown")
    return f"gpu {device.index}: {name}"
