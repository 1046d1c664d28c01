"""Prints this machine's GPUs as JSON; a process of its own: `python -m worker.nvml`."""

import json
import sys

import pynvml


def main() -> None:
    """An empty list where there is no NVIDIA driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        sys.stdout.write("[]")
        return
    sys.stdout.write(json.dumps([_describe(index) for index in range(pynvml.nvmlDeviceGetCount())]))


def _describe(index: int) -> dict[str, object]:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return {
        "index": index,
        "name": pynvml.nvmlDeviceGetName(handle),
        "memory_mb": memory.total // 1_048_576,
    }


if __name__ == "__main__":
    main()
