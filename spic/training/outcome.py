"""What a finished training leaves: weights, frequency tables, and a last line in its log."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from spic.points import SHARED
from spic.training.features import FeatureSet
from spic.training.fit import Trainee
from spic.training.log import note
from spic.training.prediction import compare
from spic.training.tables import count_tables, file_names, rounded_to_half, write_point, write_tables


def write_outcome(trainee: Trainee, counting: FeatureSet, key: tuple[str, str, str, int], kinds: Iterable[str], root: Path,
                  log: Path) -> dict[str, float]:
    """Files of an operating point under ``root``, with the shared table and those of ``kinds``; bits predicted and coded.

    ``trainee`` is on the CPU, as ``counting`` is.
    """
    bottleneck, step = rounded_to_half(trainee.bottleneck.eval()), trainee.options.step
    tables = count_tables(bottleneck.encoder, counting.features, step, dict.fromkeys([SHARED, *kinds]))
    shared = tables.pop(SHARED)
    compared = compare(trainee.estimator, bottleneck.encoder, counting.features, shared, step, counting.pixels)
    note(log, compared)
    write_point(bottleneck, shared, *key, root=root)
    write_tables(tables, root / file_names(*key)["table"], key[1], root)
    return compared
