"""What a benchmark says about the machine it ran on."""

from __future__ import annotations

import os
import platform

import torch


def describe() -> dict:
    """Processor, cores, threads, versions."""
    model = platform.processor()
    try:
        lines = open("/proc/cpuinfo").read().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cpu": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "gpu": gpu,
            "torch": torch.__version__, "python": platform.python_version()}
