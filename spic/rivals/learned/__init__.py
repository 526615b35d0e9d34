"""Rivals that were trained: learned image compression, and the Entropic Student. They need the optional compressai."""

from __future__ import annotations

import warnings

from spic.errors import SpicError


def require_compressai() -> None:
    """SpicError in one line when the library that the modules networks, lessons, codec and store stand on is absent."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that compressai imports
            import compressai.models  # noqa: F401
    except ImportError as error:
        raise SpicError(f"learned rivals need compressai ({error}): pip install -e .[learned]") from None
