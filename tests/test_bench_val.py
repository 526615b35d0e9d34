"""bench/val.py: every loop that it times runs."""

from types import SimpleNamespace

import torch

from spic.benchmarks import find
from spic.points import DICT_FILE


@torch.inference_mode()  # as the script runs them
def test_every_loop_runs_once(bench):
    args = SimpleNamespace(gpu=False, points=DICT_FILE, task="classification", benchmark="scenes", split_point="S3", compress_factor="1",
                           backbone_weights=None, batch_size=2)
    timed = bench("val").loops(find("classification", "scenes"), args)
    taken = bench("val").take_turns(timed, batches=1, rounds=1)
    assert list(taken) == list(timed) and {len(seconds) for seconds in taken.values()} == {1}
    assert {"uncompressed network", "road, rans", "road, huffman, bf16", "published way"} <= set(taken)
