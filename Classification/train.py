"""Trains a bottleneck for split classification behind a frozen network.

    python train.py --split_point US1 --data DIR --output my_points
"""

from spic.training.command import main

if __name__ == "__main__":
    raise SystemExit(main("classification"))
