"""What is told while pictures go and answers come, and the summary at the end. Safe for several threads."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter, defaultdict

import numpy as np
from tqdm import tqdm

from spic.edge.client import Answered
from spic.edge.spool import Parcel

STAGES = ("prepare", "network", "code", "wait", "answer", "cloud")
"""prepare, network, code: on the edge. wait: in the spool. answer: from the first byte sent to the last one received, of
which cloud is what the server says it spent."""
PERCENTILES = (50, 95, 99)


class Report:
    """as_json: one JSON object a line instead of text. pixels: of the network's input. total: pictures, if it is known."""

    def __init__(self, as_json: bool, pixels: int, total: int | None = None):
        self.as_json, self.pixels = as_json, pixels
        self.answered, self.failed, self.first_failure = 0, 0, ""
        self.payload_bytes = self.stream_bytes = 0
        self.points: Counter[str] = Counter()
        self.milliseconds: dict[str, list[float]] = defaultdict(list)
        self._lock, self._start = threading.Lock(), time.monotonic()
        self._bar = tqdm(total=total, unit="img", desc="edge", disable=None, file=sys.stderr)

    def answer(self, parcel: Parcel, answered: Answered, waited_ms: float) -> None:
        """A stream was answered: tell each picture's answer, and count."""
        shared = {"wait": waited_ms, "answer": 1e3 * answered.seconds, "cloud": answered.cloud_ms}
        rows = zip(parcel.pictures, parcel.payload_bytes, parcel.milliseconds, answered.answers)
        with self._lock:
            self.stream_bytes += len(parcel.body)
            self.points[parcel.point] += len(parcel.pictures)
            for place, (picture, size, own, answer) in enumerate(rows):
                times = {**own, **shared}
                self.answered += 1
                self.payload_bytes += size
                for stage, spent in times.items():
                    self.milliseconds[stage].append(spent)
                row = {"picture": picture, "point": parcel.point, "stream": parcel.id, "place": place,
                       "payload_bytes": size,
                       "milliseconds": {stage: round(spent, 3) for stage, spent in times.items()}, "answer": answer}
                self._say(row, f"{picture}: {told(answer)}  ({size} bytes, {times['answer']:.0f} ms)")

    def failure(self, picture: str, why: str) -> None:
        """A picture that nobody will answer."""
        with self._lock:
            self.failed += 1
            self.first_failure = self.first_failure or f"{picture}: {why}"
            self._say({"picture": picture, "error": why}, f"{picture}: failed: {why}")

    def note(self, text: str) -> None:
        """For a person, on stderr."""
        with self._lock:
            tqdm.write(f"note: {text}", file=sys.stderr)

    def close(self) -> None:
        """End the progress bar; tell the summary, where there is anything to sum up."""
        self._bar.close()
        if not self.answered + self.failed:
            return
        summary = self.summary()
        print(json.dumps({"summary": summary}) if self.as_json else text(summary), flush=True)

    def summary(self) -> dict:
        """Counts, bytes, bits per pixel and percentiles of milliseconds, over the answered pictures."""
        pixels = max(1, self.answered) * self.pixels
        stages = {stage: _percentiles(spent) for stage in STAGES if (spent := self.milliseconds.get(stage))}
        return {"answered": self.answered, "failed": self.failed, "seconds": round(time.monotonic() - self._start, 3),
                "payload_bytes": self.payload_bytes, "stream_bytes": self.stream_bytes,
                "bpp": 8 * self.payload_bytes / pixels,
                "wire_bpp": 8 * self.stream_bytes / pixels, "points": dict(self.points), "milliseconds": stages}

    def _say(self, row: dict, line: str) -> None:
        self._bar.update()
        tqdm.write(json.dumps(row) if self.as_json else line, file=sys.stdout)
        sys.stdout.flush()


def _percentiles(spent: list[float]) -> dict[str, float]:
    values = np.percentile(spent, PERCENTILES)
    return {f"p{p}": round(float(value), 3) for p, value in zip(PERCENTILES, values)}


def told(answer: dict) -> str:
    """An answer in a few words: the best class, or the classes of a map."""
    top, classes = answer.get("top"), answer.get("classes")
    if isinstance(top, list) and top and isinstance(top[0], dict):
        score = top[0].get("score")
        return f"{_plain(top[0].get('name'))}{f' {100 * score:.1f} %' if isinstance(score, (int, float)) else ''}"
    return ", ".join(map(_plain, classes[:10])) if isinstance(classes, list) else "an answer"


def _plain(name) -> str:
    """A name from the network, without what would steer a terminal."""
    return "".join(letter for letter in str(name)[:60] if letter.isprintable())


def text(summary: dict) -> str:
    """The summary as a person reads it."""
    lines = [f"{summary['answered']} pictures answered, {summary['failed']} failed, in {summary['seconds']:.1f} s"]
    if summary["answered"]:
        count = summary["answered"]
        lines += [f"payload {summary['payload_bytes'] / count:.1f} bytes a picture ({summary['bpp']:.5f} bpp), streams "
                  f"{summary['stream_bytes'] / count:.1f} ({summary['wire_bpp']:.5f} bpp)"]
        shares = summary["points"].items()
        lines += [f"  {name}: {pictures} pictures" for name, pictures in shares] if len(shares) > 1 else []
        lines += [f"{'milliseconds':<14}" + "".join(f"{f'p{p}':>10}" for p in PERCENTILES)]
        lines += [f"  {stage:<12}" + "".join(f"{value:>10.2f}" for value in spent.values())
                  for stage, spent in summary["milliseconds"].items()]
    return "\n".join(lines)
