"""What all commands share: how bad input ends, and how arguments are parsed."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from spic.errors import SpicError

BAD_INPUT = 2
MOST = 1 << 31
"""Whole numbers above it are typing errors."""


class Parser(argparse.ArgumentParser):
    """No option may be cut short, and a wrong command ends in one line."""

    def __init__(self, prog: str | None = None, **options):
        super().__init__(prog, **{"allow_abbrev": False, "formatter_class": argparse.ArgumentDefaultsHelpFormatter, **options})

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"error: {' '.join(message.split())} ({self.prog} --help lists the options)\n")


def guarded(command: Callable[[], None]) -> int:
    """Run a command; bad input becomes one line on stderr and exit code 2, an interruption 130."""
    try:
        command()
        return 0
    except SpicError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:  # a disk that is full or goes away is nothing that a traceback would help with
        print(f"error: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was, as far as its work was kept", file=sys.stderr)
        return 130


def boolean(text: str) -> bool:
    """``True`` and ``False`` as the published scripts write them, really parsed."""
    values = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return values[text.lower()]


def natural(text: str) -> int:
    """A whole number, zero or more, below 2**31."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and int(text) < MOST):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number from 0 to {MOST - 1}")
    return int(text)


def positive(text: str) -> int:
    """A whole number above zero, below 2**31."""
    if natural(text) == 0:
        raise argparse.ArgumentTypeError("0 is not a whole number above 0")
    return int(text)


def strength(text: str) -> float:
    """A number from 0 on."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number from 0 (off) on, such as 0.1")
    return value


def weights_file(text: str) -> Path | str:
    """A file of a network's weights, or ``random``."""
    return text if text == "random" else Path(text)


def file_or_folder(text: str) -> Path:
    """The path of an output; an empty one, or one that only looks like a file of another kind, is refused."""
    path = Path(text)
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty: name a file or a folder")
    if path.suffix[1:].isalpha() and path.suffix not in (".json", ".csv") and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: is neither a .json or .csv file nor, by its name, a folder")
    return path


def pick_device(gpu: bool):
    """The GPU of this process, or the CPU, as a torch.device; asking for a GPU where there is none is an error."""
    import torch

    if not gpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise SpicError("--gpu True: torch sees no GPU on this machine; run with --gpu False")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
