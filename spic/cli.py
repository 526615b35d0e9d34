"""The command ``spic``: one thin subcommand per thing, each loaded when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "try": ("spic.tryout", "send one picture from edge to cloud, and see what arrives"),
    "splits": ("spic.splits", "where a network can be cut, what that costs, what it saves"),
    "train": ("spic.training.command", "train bottlenecks for a network on your pictures"),
    "val": ("spic.val", "measure operating points: accuracy against bits"),
    "export": ("spic.export.command", "write edge halves as ONNX, for an edge without torch"),
    "edge": ("spic.edge.command", "send pictures to a cloud, and take its answers"),
    "encode": ("spic.encode", "code many pictures to Parquet, on one machine or a cluster"),
    "cloud": ("spic.cloud.command", "answer streams of edges over HTTP"),
    "curves": ("spic.curves.command", "figures and tables of results, beside JPEG and HEVC"),
    "rivals": ("spic.rivals.command", "picture codecs on the same data and network"),
    "import": ("spic.published.command", "bring in the published weights and tables, or audit them"),
    "study": ("spic.study.command", "the papers' claims: train over seeds, measure, judge"),
    "grid": ("spic.training.grid", "train all bottlenecks that a benchmark ships"),
    "pictures": ("spic.training.listing", "list and check the pictures that bottlenecks learn from"),
    "recount": ("spic.training.recount", "count frequency tables anew"),
    "backbone": ("spic.training.backbone", "train the network of a benchmark"),
    "scenes": ("spic.scenes", "draw a set of the embedded pictures"),
    "cache": ("spic.cache", "list or clear what is kept between runs"),
}
PER_TASK = ("train", "val")
"""Have a script in each task's folder, too, which says what --task is there unless it is given."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] in ("-V", "--version"):
        from spic import __version__

        print(f"spic {__version__}")
        return 0
    name, rest = words[0], words[1:]
    if name not in COMMANDS:
        print(f"error: unknown command {name!r}; there are: {', '.join(COMMANDS)} (spic --help)", file=sys.stderr)
        return 2
    return run(name, rest)


def run(name: str, argv: list[str] | None = None, task: str | None = None) -> int:
    """Load a subcommand and run it; an interruption while loading is no traceback. task: of the script that calls."""
    try:
        command = importlib.import_module(COMMANDS[name][0]).main
        if name not in PER_TASK:
            return command(argv)
        return command(task, argv) if task else command("classification", argv, f"spic {name}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: spic COMMAND [options]", "", "Split a network in two and send the feature in between in as few",
                      "bits as possible.", "", *lines, "", "spic COMMAND --help lists the options of one."])


if __name__ == "__main__":
    sys.exit(main())
