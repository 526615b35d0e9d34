"""The learning rate over a training: it rises linearly, then falls as a cosine. One shape, two settings of it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """warm_up: share of the run in which the rate rises. first, last: the rate at both ends, as shares of the peak."""

    warm_up: float
    first: float
    last: float

    def __call__(self, progress: float, peak: float) -> float:
        """The learning rate at ``progress``, 0 to 1, of a run with this peak."""
        if progress < self.warm_up:
            return peak * (self.first + (1 - self.first) * progress / self.warm_up)
        fall = 0.5 * (1 + math.cos(math.pi * (progress - self.warm_up) / (1 - self.warm_up)))
        return peak * (self.last + (1 - self.last) * fall)


BOTTLENECK = Schedule(0.1, 0.1, 0.01)
NETWORK = Schedule(0.15, 0.02, 0.0)
