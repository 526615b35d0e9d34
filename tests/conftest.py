"""Shared by all tests: generated data goes to a folder of this test run."""

import importlib
import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def scratch_cache(tmp_path_factory):
    """Scenes and COCO lists are generated afresh, so that a stale cache cannot make a test pass."""
    os.environ["SPIC_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(max(1, min(2, os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))


@pytest.fixture
def bench(monkeypatch):
    """Imports a script of bench/ by its name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "bench"))
    return importlib.import_module


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A bundle of three points of a small network at two split points, as a folder beside their dict.yaml; made once."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"needs {name}: pip install '.[export]'")
    from edge_cases import write_points

    from spic.export.command import export
    from spic.points import load_points

    folder = tmp_path_factory.mktemp("exported")
    points = load_points(write_points(folder))
    export(list(points.values()), folder / "bundle", data=folder / "counted", pictures=4)
    return folder / "bundle"
