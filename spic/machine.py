"""The cores of this machine, and worker processes that do not outlive whom they work for."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """In a worker process: end soon after its parent was killed, which could not tell it to; it would wait for work for ever."""
    parent = multiprocessing.parent_process().pid

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
