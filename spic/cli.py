"""What all commands share: how bad input ends, how arguments are parsed, how outputs are checked before a run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

import torch

from spic.errors import SpicError

BAD_INPUT = 2


def guarded(command: Callable[[], None]) -> int:
    """Run a command; bad input becomes one line on stderr and exit code 2, an interruption 130."""
    try:
        command()
        return 0
    except SpicError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def boolean(text: str) -> bool:
    """``True`` and ``False`` as the published scripts write them, really parsed."""
    values = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return values[text.lower()]


def positive(text: str) -> int:
    """A whole number above zero."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def natural(text: str) -> int:
    """A whole number, zero or more."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def pick_device(gpu: bool) -> torch.device:
    """The GPU of this process, or the CPU; asking for a GPU where there is none is an error."""
    if not gpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise SpicError("--gpu True: torch sees no GPU on this machine; run with --gpu False")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device
