"""Tables and symbols for the coder tests, drawn at random or taken from the published tables."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

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


def draw(table: FrequencyTable, images: int, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """int32 [images, *shape], each symbol drawn from its own distribution."""
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(table.dense_counts(), axis=1)
    contexts = table.contexts(shape)
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
def batches(draw_value, table: FrequencyTable):
    """Symbols [0..6 images, channels, 0..40]: those of the table, some that need an escape, or nothing but escapes."""
    channels = 1 if table.index is None else len(table.index)
    shape = (draw_value(st.integers(0, 6)), channels, draw_value(st.integers(0, 40)))
    known = st.sampled_from(sorted(table.counts))
    foreign = st.one_of(st.integers(0, 40), st.integers(0, (1 << 24) - 1), st.just((1 << 24) - 1))
    kind = draw_value(st.sampled_from([known, st.one_of(known, known, known, foreign), foreign]))
    size = int(np.prod(shape))
    return np.array(draw_value(st.lists(kind, min_size=size, max_size=size)), np.int32).reshape(shape)
