"""Fits contexts to counted symbols: weights that predict a symbol from its neighbours, then distributions that are shared.

The sum of a symbol is its expected size in units: a weighted linear regression for each channel, on its own neighbours and on
the few earlier channels that tell most at the same place. Symbols of like sums, channels and zones are then put together, by
the bits that it costs to share a distribution.
"""

from __future__ import annotations

import math

import numpy as np

from spic.coding.clusters import ROUNDS, cluster, prices
from spic.coding.contexts import MAX_CAP, MAX_SUM, Contexts
from spic.coding.neighbours import MAX_NEIGHBOURS, MAX_WEIGHT, Neighbours, activity

DISTRIBUTIONS = 64
"""The most of a table: more save hardly any bits, and cost the decoder memory."""
OWN = ((0, -1), (-1, 0), (-1, 1), (-1, -1), (0, -2), (-2, 0))
"""(row, column) of the neighbours in a symbol's own channel."""
HERE = (0, 0)
AROUND = ((0, -1), (0, 1), (-1, 0), (1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
"""(row, column) of more symbols of an earlier channel that is taken: there, all sides are known."""
MORE = 8
"""The most of these."""
EARLIER = 8
"""The most earlier channels whose symbol at the same place counts."""
SIGNIFICANT = 10.0
"""An earlier channel is taken if it lowers the squared error by so many variances."""
ZONES = 4
"""Rows and columns of zones with a bias of their own."""
ROWS = 120
"""The most rows of choices, channels × zones; more channels than that have one row each. They fill most of the file."""
CLASSES = 64
UNITS = 512
"""Of the sum, for an expected size of 1; fewer where sizes are large."""
LEAST = 0.02
"""An expected size below this counts as this where its logarithm or its inverse is taken."""
SAMPLE = 20_000
"""Symbols of each channel that the regression sees."""
EXACT = 32
"""Larger symbols are put together by their bit length before distributions are clustered."""
WORTH = 0.5
"""Of a parameter of a distribution: half the logarithm of the number of symbols that it is known by, as in Rissanen's rule."""
ALONE = 16.0
"""Bits that any distribution must save besides."""
MOVE = 6.0
"""Bits that a zone must save by a choice of its own: the name of one of DISTRIBUTIONS."""
PRIOR = 4.0
"""So many symbols, distributed like those of all channels with such a sum, are added before that."""


def fit(symbols: np.ndarray, width: int, signed: bool = False) -> tuple[np.ndarray, np.ndarray, Contexts]:
    """Symbols int32 [n, C, h, w] → (counts int64 [distributions, width], index int32 [C, a, b], contexts).

    Symbols are as they are coded; those of `width` and more are not counted. signed: they have a sign."""
    sizes = np.minimum(activity(symbols, int(signed)), MAX_CAP).astype(np.float32)
    weights = _regress(sizes)
    expected = sizes.mean(axis=0)
    biases = _zoned(expected - _predicted(expected[None], weights)[0])
    units = _units(expected, sizes)
    neighbours, weights = _as_integers(weights, units)
    bias = np.round(biases * units).astype(np.int32)
    sums = (_predicted(sizes, weights) + _unzoned(bias, sizes.shape[2:])).astype(np.int32)
    limits = _limits(sums, units)
    classes = np.searchsorted(limits, sums, side="right")
    index = _rows(*symbols.shape[1:])
    rows = _unzoned(index, symbols.shape[2:])
    choices = _choices(symbols, classes, len(limits) + 1, rows)
    chosen = choices[rows, classes].ravel().astype(np.int64)
    known = symbols.ravel() < width
    counts = np.bincount(chosen[known] * width + symbols.ravel()[known], minlength=(choices.max() + 1) * width).reshape(-1, width)
    contexts = Contexts(MAX_CAP, limits.astype(np.int32), choices.astype(np.int32), bias, neighbours)
    return counts, index, contexts


def _shifted(planes: np.ndarray, row: int, column: int) -> np.ndarray:
    """What lies so many rows and columns from each place of planes [..., h, w]; 0 beyond the edge."""
    height, width = planes.shape[-2:]
    moved = np.zeros_like(planes)
    to, of = zip(*(_overlap(step, size) for step, size in ((row, height), (column, width))))
    moved[(..., *to)] = planes[(..., *of)]
    return moved


def _overlap(step: int, size: int) -> tuple[slice, slice]:
    """Places that have something `step` away, and where that is."""
    low, high = min(max(0, -step), size), max(min(size, size - step), 0)
    high = max(low, high)
    return slice(low, high), slice(low + step, high + step) if high > low else slice(0, 0)


Weights = list[list[tuple[int, int, int, float]]]
"""For each channel: (channel, row, column, weight) of its neighbours."""


def _regress(sizes: np.ndarray) -> Weights:
    """The weights of each channel's neighbours, from sizes [n, C, h, w]."""
    n, channels, height, width = sizes.shape
    count = min(n, max(1, -(-SAMPLE // max(height * width, 1))))
    sample = sizes[np.arange(count) * n // count]
    centred = sample - _unzoned(_zoned(sample.mean(axis=0)), (height, width))
    planes = centred.transpose(1, 0, 2, 3)
    moved = {place: _shifted(planes, *place).reshape(channels, -1) for place in {*OWN, *AROUND, HERE}}
    return [_weights(c, moved, sample[:, c].ravel()) for c in range(channels)]


Place = tuple[int, int, int]
"""Channel, row, column."""


def _weights(channel: int, moved: dict[tuple[int, int], np.ndarray], sizes: np.ndarray) -> list[tuple[int, int, int, float]]:
    """moved: what lies a row and a column from each symbol, [channels, L], without its mean; sizes [L]: what it was."""
    wanted, level = moved[HERE][channel], sizes.mean()
    places: list[Place] = [(channel, *place) for place in OWN]
    own = np.stack([moved[row, column][other] for other, row, column in places])
    guess = level + _solved(own @ own.T, own @ wanted) @ own
    trust = 1 / np.maximum(guess, max(LEAST, level / 4))  # the variance of a count grows with its mean
    places, _ = _taken(places, [(other, *HERE) for other in range(channel)], EARLIER, moved, trust, wanted)
    around = [(other, *place) for other, *_ in places[len(OWN):] for place in AROUND]
    places, weights = _taken(places, around, MORE, moved, trust, wanted)
    return [(*place, float(weight)) for place, weight in zip(places, weights)]


def _taken(sure: list[Place], more: list[Place], most: int, moved, trust: np.ndarray, wanted: np.ndarray
           ) -> tuple[list[Place], np.ndarray]:
    """The places that are sure and at most so many others, each the one that then tells most; and the weights of all."""
    places = sure + more
    known = np.stack([moved[row, column][channel] for channel, row, column in places])
    gram, told = (known * trust) @ known.T, (known * trust) @ wanted
    chosen = list(range(len(sure)))
    for _ in range(min(most, len(more))):
        rest = told - gram[:, chosen] @ _solved(gram[np.ix_(chosen, chosen)], told[chosen])
        gain = rest**2 / np.maximum(np.diag(gram), 1e-9)
        gain[chosen] = 0
        if gain.max() < SIGNIFICANT:
            break
        chosen.append(int(gain.argmax()))
    return [places[k] for k in chosen], _solved(gram[np.ix_(chosen, chosen)], told[chosen])


def _solved(gram: np.ndarray, told: np.ndarray) -> np.ndarray:
    """Least squares with a slight pull to zero, which also stands for neighbours that are never there."""
    pull = 1e-3 * np.trace(gram) / len(gram) + 1e-3
    return np.linalg.solve(gram.astype(np.float64) + pull * np.eye(len(gram)), told.astype(np.float64))


def _predicted(sizes: np.ndarray, weights: Weights) -> np.ndarray:
    """The weighted sums of neighbours, as sizes [n, C, h, w]."""
    sums = np.zeros_like(sizes)
    for channel, entries in enumerate(weights):
        for other, row, column, weight in entries:
            sums[:, channel] += np.float32(weight) * _shifted(sizes[:, other], row, column)
    return sums


def _zoned(planes: np.ndarray) -> np.ndarray:
    """Means of planes [C, h, w] over ZONES × ZONES zones, fewer where the map is smaller: place i of n lies in zone
    i · zones / n."""
    for axis in (1, 2):
        size = planes.shape[axis]
        starts = -(-np.arange(min(size, ZONES)) * size // min(size, ZONES))
        totals = np.add.reduceat(planes, starts, axis=axis)
        shape = [1, 1, 1]
        shape[axis] = -1
        planes = totals / np.diff(np.append(starts, size)).reshape(shape)
    return planes


def _unzoned(zones: np.ndarray, plane: tuple[int, int]) -> np.ndarray:
    """Zones [C, a, b] stretched over [C, h, w]."""
    rows, columns = (np.arange(size) * entries // size for size, entries in zip(plane, zones.shape[1:]))
    return zones[:, rows[:, None], columns]


def _units(expected: np.ndarray, sizes: np.ndarray) -> float:
    """So many that sums of large symbols, too, lie below MAX_SUM."""
    large = max(float(expected.max()) * 4, float(np.quantile(sizes[:: max(1, len(sizes) // 50)], 0.999)), 1.0)
    return min(UNITS, MAX_SUM / (1.5 * large))


def _as_integers(weights: Weights, units: float) -> tuple[Neighbours, Weights]:
    """The neighbours whose weights do not round to nothing."""
    rounded = [[(*place, max(-MAX_WEIGHT, min(MAX_WEIGHT, round(weight * units)))) for *place, weight in entries]
               for entries in weights]
    rounded = [[entry for entry in entries if entry[-1]][:MAX_NEIGHBOURS] for entries in rounded]
    rows = [(of, *entry) for of, entries in enumerate(rounded) for entry in entries]
    return Neighbours(*np.array(rows, np.int32).reshape(-1, 5).T), rounded


def _limits(sums: np.ndarray, units: float) -> np.ndarray:
    """Limits of classes that hold equally many symbols each, and as many that are evenly spaced on a logarithmic scale."""
    some = sums.ravel()[:: max(1, sums.size // 200_000)]
    low, high = max(1.0, LEAST * units), max(2.0, min(float(some.max()), MAX_SUM))
    even = np.geomspace(min(low, high / 2), high, CLASSES // 2)
    equal = np.quantile(some, np.linspace(0, 1, CLASSES // 2 + 1)[1:-1])
    return np.unique(np.clip(np.round(np.concatenate([even, equal])), 1, MAX_SUM).astype(np.int64))


def _rows(channels: int, height: int, width: int) -> np.ndarray:
    """The row of choices of each channel's zones, int32 [C, a, b]."""
    zones = max(1, min(ZONES, math.isqrt(ROWS // channels)))
    shape = channels, min(height, zones), min(width, zones)
    return np.arange(math.prod(shape), dtype=np.int32).reshape(shape)


def _choices(symbols: np.ndarray, classes: np.ndarray, count: int, rows: np.ndarray) -> np.ndarray:
    """The distribution of each row's classes, int [rows, count]: at most DISTRIBUTIONS. rows: of each place, [C, h, w]; as many
    of each channel."""
    folded = np.where(symbols < EXACT, symbols, EXACT - 6 + np.frexp(symbols.astype(np.float64))[1])
    width, channels, several = int(folded.max()) + 1, symbols.shape[1], int(rows.max()) + 1
    cells = rows * count + classes
    counts = np.bincount((cells * width + folded).ravel(), minlength=several * count * width)
    counts = counts.reshape(channels, -1, count, width).astype(np.float64)
    together = _of_channels(counts.sum(axis=1))
    if several == channels:
        return together
    choices = np.repeat(together[:, None], several // channels, axis=1)
    return _moved(choices.ravel(), counts.reshape(-1, width)).reshape(several, count)


def _moved(choices: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Each row of counts chooses another of the distributions where that saves more than it costs to say so."""
    for _ in range(ROUNDS):
        bits = counts @ prices(counts, choices)
        cheapest, rows = bits.argmin(axis=1), np.arange(len(counts))
        better = bits[rows, choices] - bits[rows, cheapest] > MOVE
        if not better.any():
            break
        choices = np.where(better, cheapest, choices)
    return choices


def _of_channels(counts: np.ndarray) -> np.ndarray:
    """The distribution of each channel's classes, int [C, count], from their counts [C, count, symbols]."""
    channels, count, width = counts.shape
    seen = counts.any(axis=2)
    everywhere = counts.sum(axis=0) + 1e-3 * counts.sum(axis=(0, 1))
    likely = counts + PRIOR * everywhere / np.maximum(everywhere.sum(axis=1, keepdims=True), 1e-9)
    cells, seen = likely.reshape(-1, width), seen.ravel()
    choices = np.zeros(len(cells), np.int64)
    choices[seen] = _merged(cluster(cells[seen], DISTRIBUTIONS), counts.reshape(-1, width)[seen])
    choices[~seen] = (cells[~seen] @ prices(cells[seen], choices[seen])).argmin(axis=1)
    return choices.reshape(channels, count)


def _merged(assigned: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Clusters of rows of counts, put together in pairs while that costs fewer bits than a distribution is worth: what it
    saves on the counted symbols it must save on others, too, and each of its symbols is known by so many counts only."""
    pooled = np.zeros((assigned.max() + 1, counts.shape[1]))
    np.add.at(pooled, assigned, counts)
    names = np.arange(len(pooled))
    loss = np.array([[_loss(a, b) if i < j else np.inf for j, b in enumerate(pooled)] for i, a in enumerate(pooled)])
    while loss.size and loss.min() <= 0:
        first, second = np.unravel_index(loss.argmin(), loss.shape)
        pooled[first] += pooled[second]
        names[names == second] = first
        loss[second, :] = loss[:, second] = np.inf
        for other in set(names.tolist()) - {first}:
            low, high = sorted((first, other))
            loss[low, high] = _loss(pooled[low], pooled[high])
    return np.unique(names[assigned], return_inverse=True)[1].reshape(-1)


def _loss(first: np.ndarray, second: np.ndarray) -> float:
    """Bits that it costs to share a distribution, less what the smaller one is worth."""
    both = first + second
    bits = _information(both) - _information(first) - _information(second)
    smaller = min(first, second, key=np.sum)
    return bits - WORTH * (np.count_nonzero(smaller) + 1) * np.log2(smaller.sum() + 2) - ALONE


def _information(counts: np.ndarray) -> float:
    known = counts[counts > 0]
    return float(known @ (np.log2(known.sum()) - np.log2(known))) if len(known) else 0.0
