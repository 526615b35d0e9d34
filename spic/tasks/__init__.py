"""What a split network is for: how answers are scored, trained and shown. One file per task.

A new task is a file here with a ``TASK``, its line below, and a folder with val.py and train.py at the top level.
"""

from __future__ import annotations

from spic.tasks.classification import TASK as CLASSIFICATION
from spic.tasks.segmentation import TASK as SEGMENTATION
from spic.tasks.task import AGREEMENT, DIVERGENCE, Answer, Metric, Score, Task

__all__ = ["AGREEMENT", "DIVERGENCE", "TASKS", "Answer", "Metric", "Score", "Task"]

TASKS: dict[str, Task] = {task.name: task for task in (CLASSIFICATION, SEGMENTATION)}
