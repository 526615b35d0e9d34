"""Pictures from files, folders that may be watched, video files and cameras, one after the other.

A source gives Pictures, and None whenever there is none just now. What is wrong with one picture is found when it is loaded,
and stops no other.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from PIL import Image

from spic.datasets.pictures import read_rgb
from spic.errors import SpicError, reason

PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
VIDEOS = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".m2ts", ".y4m", ".hevc", ".h264",
          ".h265")
POLL_SECONDS = 0.5
"""How often a watched folder is looked at. A file counts once two looks saw the same of it: it is written to its end."""


@dataclass(frozen=True)
class Picture:
    """name: its path, or VIDEO#frame. load: gives it as RGB, or a SpicError. can_wait: it is still there later. key: of a
    file, changes when it does."""

    name: str
    load: Callable[[], Image.Image]
    can_wait: bool = True
    key: str = ""


def sources(inputs: Sequence[str], follow: bool, every: int, fps: float | None) -> Iterator[Picture | None]:
    """All of the inputs in order; with ``follow`` the folders come last, and are watched for ever."""
    for text in inputs:
        if is_video(text):
            yield from _to_its_end(text, video(text, every, fps))
        elif not (follow and Path(text).is_dir()):
            yield from map(_file, files(text))
    if follow:
        yield from watch([Path(text) for text in inputs if Path(text).is_dir()])


def _to_its_end(text: str, pictures: Iterator[Picture]) -> Iterator[Picture]:
    """What cannot be read any more ends like a picture that cannot be loaded: the other inputs go on."""
    try:
        yield from pictures
    except SpicError as error:
        yield Picture(text, partial(_fail, error))


def _fail(error: SpicError):
    raise error


def check(inputs: Sequence[str], follow: bool, every: int, fps: float | None) -> None:
    """Before the work: names that are none, and options that nothing here would heed."""
    for text in inputs:
        if not is_video(text) and not Path(text).exists():
            raise SpicError(f"{text}: no such picture, folder or video")
    if follow and not any(Path(text).is_dir() for text in inputs):
        raise SpicError("--follow watches folders, and no INPUT is one")
    if (every > 1 or fps is not None) and not any(map(is_video, inputs)):
        raise SpicError("--every and --fps choose frames of a video or camera, and no INPUT is one")


def count(inputs: Sequence[str], follow: bool) -> int | None:
    """How many pictures there are; None where nobody knows."""
    return None if follow or any(map(is_video, inputs)) else sum(len(files(text)) for text in inputs)


def is_video(text: str) -> bool:
    """A video by its name, a camera (/dev/video0), or an address (rtsp://…)."""
    return "://" in text or text.startswith("/dev/video") or text.lower().endswith(VIDEOS)


def is_live(text: str) -> bool:
    """A camera or an address: what is not taken now is gone."""
    return is_video(text) and not Path(text).is_file()


def files(text: str) -> list[Path]:
    """The file, or all picture files in the folder and the folders in it, in order of their paths."""
    path = Path(text)
    if not path.is_dir():
        return [path]
    return sorted(Path(parent) / name for parent, _, names in os.walk(path) for name in names
                  if name.lower().endswith(PICTURES))


def _file(path: Path) -> Picture:
    return Picture(str(path), lambda: read_rgb(path))


def watch(folders: Sequence[Path], pause: Callable[[float], None] = time.sleep) -> Iterator[Picture | None]:
    """The picture files in folders, and new and changed ones, each once it is written to its end."""
    known: dict[Path, tuple[int, int]] = {}
    told: dict[Path, tuple[int, int]] = {}
    while True:
        seen = _look(folders)
        for path, state in sorted(seen.items()):
            if told.get(path) != state and known.get(path) == state:
                told[path] = state
                yield replace(_file(path), key=f"{path}\0{state}")
        known, told = seen, {path: state for path, state in told.items() if path in seen}
        yield None
        pause(POLL_SECONDS)


def _look(folders: Sequence[Path]) -> dict[Path, tuple[int, int]]:
    """Path → (size, time of change) of the picture files; one that goes away meanwhile is left out."""
    found = {}
    for folder in folders:
        for path in files(str(folder)):
            try:
                status = path.stat()
            except OSError:
                continue
            found[path] = (status.st_size, status.st_mtime_ns)
    return found


# ---- videos and cameras -------------------------------------------------------------------------------------------


def video(text: str, every: int, fps: float | None) -> Iterator[Picture]:
    """Each ``every``-th frame, and of those at most ``fps`` a second by the video's own clock. SpicError: unreadable."""
    live, due = is_live(text), float("-inf")
    for number, frame in enumerate(_frames(text)):
        if number % every:
            continue
        if fps is not None and frame.time is not None:
            if frame.time < due - 1e-6:
                continue
            due = frame.time + 1 / fps
        yield Picture(f"{text}#{number}", frame.to_image, not live)


def _frames(text: str) -> Iterator:
    try:
        import av
    except ImportError:
        raise SpicError(f"{text}: PyAV is not installed, and videos need it: pip install av") from None
    try:
        with av.open(text, format="v4l2" if text.startswith("/dev/video") else None, timeout=(10.0, 10.0)) as container:
            yield from container.decode(video=0)
    except (av.error.FFmpegError, OSError, IndexError, ValueError) as error:
        why = "no pictures in it" if isinstance(error, IndexError) else reason(error)
        raise SpicError(f"{text}: not a readable video ({why})") from None
