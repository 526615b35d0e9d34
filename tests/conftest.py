"""Shared by all tests: generated data goes to a folder of this test run."""

import os

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def scratch_cache(tmp_path_factory):
    """Scenes and COCO lists are generated afresh, so that a stale cache cannot make a test pass."""
    os.environ["SPIC_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(min(2, os.cpu_count() or 1))
