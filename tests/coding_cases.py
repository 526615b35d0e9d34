"""Tables and symbols for the coder tests, drawn at random or taken from the published tables."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from spic.coding.contexts import Contexts
from spic.coding.neighbours import Neighbours
from spic.coding.tables import FrequencyTable

settings.register_profile("coding", deadline=None)  # kernels are compiled in whichever case comes first
settings.load_profile("coding")
SHARED = Path(__file__).parents[1].parent / "shared"


def shared_json(name: str) -> dict:
    """A JSON file of the shared folder; the test is skipped where the folder is not there."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name} of the folder ../shared")
    return json.loads(path.read_text())


def published_tables():
    """(name, table, symbols of an image) of the 61 published points; the test is skipped without the shared folder."""
    folder = SHARED / "paper/published"
    if not folder.exists():
        pytest.skip("needs paper/published of the folder ../shared")
    from spic.published.audit import symbol_shape  # only here: the coders are tested without the layers above them
    from spic.published.layout import Artefact, published_points
    from spic.published.unpickle import read_table

    for point in published_points():
        data = (folder / Artefact(point, "table").name).read_bytes()
        yield point.name, read_table(data, point.step), math.prod(symbol_shape(point))


EARLIER = Contexts(9, np.array([4, 12, 30], np.int32), np.array([[0, 1, 2, 3], [1, 1, 3, 3]], np.int32),
                   np.array([3, -2, 6], np.int32).reshape(3, 1, 1),
                   Neighbours(*np.array([(0, 0, 0, -1, 7), (1, 0, 0, 0, 5), (1, 0, 1, 1, 2), (1, 1, -1, 0, 3), (1, 1, 0, -2, 4),
                                         (2, 0, -1, 8, -1), (2, 1, 0, 0, 9)], np.int32).T))
"""Three channels, each with neighbours of another kind."""
CONTEXT = FrequencyTable([{0: 90, 1: 9, 2: 1}, {0: 50, 1: 30, 2: 15, 3: 5}, {0: 5, 1: 5, 2: 5, 7: 2}, {1: 3, 9: 2, 10: 1}], 1.0,
                         np.array([0, 1, 0]).reshape(3, 1, 1), contexts=EARLIER)


def draw(table: FrequencyTable, images: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """int32 [images, *shape], each symbol drawn from its own distribution, which the place alone selects."""
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(table.dense_counts(), axis=1)
    contexts = table.selector(shape).known[0]
    target = rng.random((images, len(contexts))) * cumulative[contexts, -1]
    drawn = np.empty(target.shape, np.int32)
    for context in np.unique(contexts):
        at = contexts == context
        drawn[:, at] = np.searchsorted(cumulative[context], target[:, at], side="right")
    return drawn.reshape(images, *shape)


COUNTS = st.dictionaries(
    st.one_of(st.integers(0, 12), st.integers(0, 65535)),
    st.one_of(st.integers(1, 9), st.integers(1, 1 << 32)),
    min_size=1,
    max_size=30,
)
SHARED_TABLES = COUNTS.map(lambda counts: FrequencyTable(counts, 1.0))


@st.composite
def channel_tables(draw_value):
    """A table of one to four channels, coding symbols of shape [channels, n]."""
    rows = draw_value(st.lists(COUNTS, min_size=1, max_size=4))
    return FrequencyTable(rows, 0.5, np.arange(len(rows)).reshape(-1, 1))


@st.composite
def neighbours(draw_value, channels: int, most: int = 4):
    """Up to `most` neighbours of each channel, in its own and in earlier ones, some far beyond a small map."""
    found = []
    for of in range(channels):
        for _ in range(draw_value(st.integers(0, most))):
            channel, row = draw_value(st.integers(0, of)), draw_value(st.integers(-2, 2))
            column = draw_value(st.integers(-8, 2))
            if channel == of:
                row, column = -abs(row), -1 - abs(column) % 8 if row == 0 else column
            found.append((of, channel, row, column, draw_value(st.integers(-30, 30))))
    return Neighbours(*np.array(found, np.int32).reshape(-1, 5).T)


@st.composite
def context_tables(draw_value):
    """One to four distributions for one to three channels of maps of any size, selected by places and neighbours."""
    counts = draw_value(st.lists(COUNTS, min_size=1, max_size=4))
    channels, rows = draw_value(st.integers(1, 3)), draw_value(st.integers(1, 2))
    limits = sorted(draw_value(st.sets(st.integers(1, 200), max_size=4)))
    size = rows * (len(limits) + 1)
    choices = draw_value(st.lists(st.integers(0, len(counts) - 1), min_size=size, max_size=size))
    bias = draw_value(st.lists(st.integers(-50, 100), min_size=channels, max_size=channels))
    contexts = Contexts(draw_value(st.integers(0, 255)), np.array(limits, np.int32), np.array(choices, np.int32).reshape(rows, -1),
                        np.array(bias, np.int32).reshape(-1, 1, 1), draw_value(neighbours(channels)))
    index = draw_value(st.lists(st.integers(0, rows - 1), min_size=channels, max_size=channels))
    return FrequencyTable(counts, 0.5, np.array(index).reshape(-1, 1, 1), contexts=contexts)


@st.composite
def batches(draw_value, table: FrequencyTable):
    """Symbols [0..6 images, channels, 0..40], or [0..17, .., 0..5, 0..5]: those of the table, some that need an escape, or nothing
    but escapes."""
    channels, axes = (1, 2) if table.index is None else (len(table.index), table.index.ndim)
    sides = [draw_value(st.integers(0, 40 if axes == 2 else 5)) for _ in range(axes - 1)]
    shape = (draw_value(st.sampled_from([0, 1, 3, 17]) if axes == 3 else st.integers(0, 6)), channels, *sides)
    known = st.sampled_from(sorted(table.counts))
    foreign = st.one_of(st.integers(0, 40), st.integers(0, (1 << 24) - 1), st.just((1 << 24) - 1))
    kind = draw_value(st.sampled_from([known, st.one_of(known, known, known, foreign), foreign]))
    size = int(np.prod(shape))
    return np.array(draw_value(st.lists(kind, min_size=size, max_size=size)), np.int32).reshape(shape)
