"""Shared by all tests: generated data goes to a folder of this test run."""

import os

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def scratch_cache(tmp_path_factory):
    """Scenes and COCO lists are generated afresh, so that a stale cache cannot make a test pass."""
    os.environ["SPIC_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A bundle of three points of the scenes at two split points, as a folder; made once."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"needs {name}: pip install '.[export]'")
    from edge_cases import POINTS_EXPORTED, draw

    from spic.export.command import export
    from spic.points import load_points

    folder = tmp_path_factory.mktemp("exported")
    draw(folder / "pictures", 6)
    points = load_points()
    export([points["classification", "scenes", split, factor] for split, factor in POINTS_EXPORTED], folder / "bundle",
           data=folder / "pictures", pictures=6)
    return folder / "bundle"
