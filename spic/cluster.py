"""A Ray cluster: what the commands that use one share. Ray is optional, and its statistics of usage are off.

The cluster is the one that RAY_ADDRESS names, else one that runs on this machine, else one of this machine alone.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from spic.commands import positive
from spic.errors import SpicError, reason

MOST_REPLICAS = 10_000


@dataclass(frozen=True)
class Replicas:
    """How many processes compute, each with one processor: as many, or between two numbers as the load asks."""

    least: int
    most: int

    def __str__(self) -> str:
        return str(self.least) if self.least == self.most else f"{self.least}:{self.most}"


ONE = Replicas(1, 1)


def replicas(text: str) -> Replicas:
    """N, or MIN:MAX."""
    least, _, most = text.partition(":")
    found = Replicas(positive(least), positive(most or least))
    if found.least > found.most or found.most > MOST_REPLICAS:
        raise argparse.ArgumentTypeError(f"{text[:40]!r}: give N, or MIN:MAX with MIN at most MAX, up to {MOST_REPLICAS}")
    return found


@contextmanager
def connected(what: str) -> Iterator[None]:
    """Within the block this process belongs to the cluster. what: the command, for errors. SpicError: no Ray, no cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise SpicError(f"{what} --ray needs {error.name}: pip install 'spic-split[ray]'") from None
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except Exception as error:  # Ray has no exception of its own for this
        raise SpicError(f"{what} --ray: no cluster to work on ({reason(error)}); RAY_ADDRESS names one") from None
    try:
        yield
    finally:
        ray.shutdown()


def note_missing(wanted: int, kind: str = "CPU") -> None:
    """Say so where the cluster, as it is now, has not as many processors (or GPUs): the work then waits for them."""
    import ray

    there = int(ray.cluster_resources().get(kind, 0))
    if there < wanted:
        print(f"note: {wanted} {kind}s are asked for, and the cluster has {there}: the rest waits until it has more",
              file=sys.stderr, flush=True)
