"""One point of the rate-distortion curve of classification, measured on decoded bytes.

    python val.py --split_point S1 --compress_factor 1
"""

from spic.cli import run

if __name__ == "__main__":
    raise SystemExit(run("val", task="classification"))
