"""Trains bottlenecks for split segmentation behind a frozen network.

    python train.py --split_point US1 --data DIR --output my_points
"""

from spic.cli import run

if __name__ == "__main__":
    raise SystemExit(run("train", task="segmentation"))
