"""Which positions of a feature may share a distribution: clustering by the bits it costs to share."""

from __future__ import annotations

import numpy as np

ROUNDS = 25
SMOOTHING = 0.01
"""Added to each count of a cluster: a symbol it has not seen yet costs many bits rather than infinitely many."""


def cluster(counts: np.ndarray, clusters: int) -> np.ndarray:
    """Assign each row of counts [positions, symbols] to one of at most `clusters` clusters: int32 [positions], 0
    upwards.

    Each round prices every row with every cluster's pooled distribution and moves it to the cheapest (k-means with the
    Kullback-Leibler divergence, which never raises the total). It starts from rows of similar mean: the same counts
    always give the same clusters."""
    counts = counts.astype(np.float64)
    means = counts @ np.arange(counts.shape[1]) / np.maximum(counts.sum(axis=1), 1)
    assigned = np.empty(len(counts), np.int64)
    assigned[np.argsort(means, kind="stable")] = np.arange(len(counts)) * min(clusters, len(counts)) // len(counts)
    for _ in range(ROUNDS):
        cheapest = (counts @ prices(counts, assigned)).argmin(axis=1)
        if (cheapest == assigned).all():
            break
        assigned = cheapest
    return np.unique(assigned, return_inverse=True)[1].reshape(-1).astype(np.int32)


def prices(counts: np.ndarray, assigned: np.ndarray) -> np.ndarray:
    """Bits of each symbol in each cluster, float [symbols, clusters]."""
    pooled = np.zeros((assigned.max() + 1, counts.shape[1]))
    np.add.at(pooled, assigned, counts)
    pooled += SMOOTHING
    return -np.log2(pooled / pooled.sum(axis=1, keepdims=True)).T
