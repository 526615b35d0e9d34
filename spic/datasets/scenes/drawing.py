"""How a scene is drawn: 1/f backgrounds, clutter, textured objects, light and a camera.

A picture is a float32 canvas [H, W, 3] in 0..255 until the camera turns it into uint8. Coordinates are
(x, y) in pixels, pixel i covering [i, i + 1] as in COCO. Every function draws its chances from the given generator
alone, in a fixed order, so that one seed gives one picture.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
from PIL import Image, ImageDraw, ImageFilter

TILE = 1024               # side of a noise tile; pictures must be smaller
SPECTRA = (0.9, 1.1, 1.3, 1.6)  # amplitude falls with frequency^-s; photographs lie around 1 (Field 1987)
SUPERSAMPLE = 2
LUMA = np.float32([0.299, 0.587, 0.114])


# ---- noise -----------------------------------------------------------------------------------------------------

@lru_cache(maxsize=None)
def _tile(spectrum: float) -> np.ndarray:
    """A periodic field [TILE, TILE] of unit variance with amplitude spectrum f^-spectrum; 0 is white noise."""
    rng = np.random.default_rng([TILE, int(spectrum * 100)])
    white = rng.standard_normal((TILE, TILE), dtype=np.float32)
    frequency = np.hypot(scipy.fft.fftfreq(TILE)[:, None], scipy.fft.rfftfreq(TILE)[None])
    frequency[0, 0] = np.inf if spectrum else 1
    # Frequencies below 4 cycles per tile are held level: they would only shift the mean of a whole picture.
    gain = np.maximum(frequency, 4 / TILE) ** -spectrum
    field = scipy.fft.irfft2(scipy.fft.rfft2(white) * gain.astype(np.float32), s=(TILE, TILE))
    return np.ascontiguousarray(field / field.std(), dtype=np.float32)


def noise(rng: np.random.Generator, height: int, width: int, spectrum: float) -> np.ndarray:
    """A random flipped crop [height, width] of the tile; a crop is some hundred times cheaper than a transform."""
    tile = _tile(spectrum)
    tile = tile.T if rng.random() < 0.5 else tile
    top, left = rng.integers(TILE - height + 1), rng.integers(TILE - width + 1)
    flip_y, flip_x = rng.choice([-1, 1], size=2)
    return tile[top:top + height, left:left + width][::flip_y, ::flip_x]


# ---- colour ----------------------------------------------------------------------------------------------------

def random_colour(rng: np.random.Generator) -> np.ndarray:
    """A grey level with a moderate tint, float32 [3]: most colours of photographs are far from pure."""
    tint = rng.normal(0, 21, 3)
    return np.float32(np.clip(rng.uniform(45, 210) + tint - tint.mean(), 12, 243))


def colour_away_from(rng: np.random.Generator, others: list[np.ndarray], contrast: float) -> np.ndarray:
    """The first of some random colours whose luma differs from all `others` by `contrast`, else the best of them."""
    best, best_gap = None, -1.0
    for _ in range(12):
        colour = random_colour(rng)
        gap = min(abs(float((colour - other) @ LUMA)) for other in others)
        if gap > best_gap:
            best, best_gap = colour, gap
        if gap >= contrast:
            break
    return best


def rough_surface(rng: np.random.Generator, colour: np.ndarray, height: int, width: int, depth: float) -> np.ndarray:
    """`colour` modulated by two 1/f fields, one for brightness and one for tint: [height, width, 3]."""
    coarse, fine = rng.choice(SPECTRA[1:]), rng.choice(SPECTRA[:2])
    tint = rng.normal(0, 0.25, 3)
    bright = depth * noise(rng, height, width, fine)
    warm = 0.7 * depth * noise(rng, height, width, coarse)
    surface = np.empty((height, width, 3), np.float32)
    for channel in range(3):
        surface[..., channel] = bright + warm * np.float32(0.4 + tint[channel]) + colour[channel]
    return surface


# ---- outlines --------------------------------------------------------------------------------------------------

def blob(rng: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    """A smooth closed curve [40, 2] that is none of the shapes: clutter and occluders."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    bumps = sum(rng.normal(0, 0.45 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5))
    curve = np.stack([np.cos(angle), np.sin(angle) * rng.uniform(0.35, 1)], -1) * np.clip(1 + bumps, 0.3, 2)[:, None]
    turn = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return radius * curve @ rotation.T + centre


def random_view(rng: np.random.Generator, turn_limit: float) -> np.ndarray:
    """A homography [3, 3] of the unit disc: rotation within ±turn_limit, shear, unequal scale, perspective."""
    turn, tilt = rng.uniform(-turn_limit, turn_limit), rng.uniform(0, np.pi)
    squeeze = np.diag([1.0, rng.uniform(0.7, 1.0)])
    tilting = np.array([[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]])
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    view = np.eye(3)
    view[:2, :2] = tilting @ squeeze @ tilting.T @ rotation
    view[2, :2] = rng.uniform(-0.16, 0.16, 2)
    return view


def project(view: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points [..., 2] through a homography [3, 3]."""
    mapped = points @ view[:, :2].T + view[:, 2]
    return mapped[..., :2] / mapped[..., 2:]


def place(view: np.ndarray, outline: np.ndarray, extent: float, centre: np.ndarray) -> np.ndarray:
    """`view` scaled and moved so that the seen outline's longer side is `extent` pixels around `centre`."""
    seen = project(view, outline)
    low, high = seen.min(axis=0), seen.max(axis=0)
    scale = extent / (high - low).max()
    shift = np.asarray(centre) - scale * (low + high) / 2
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1]]) @ view


def _window_corners(polygon: np.ndarray, margin: float, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The polygon's bounding box, widened by `margin` and cut to the canvas; at least one pixel."""
    low = np.clip(np.floor(polygon.min(axis=0) - margin).astype(int), 0, [width - 1, height - 1])
    high = np.clip(np.ceil(polygon.max(axis=0) + margin).astype(int), low + 1, [width, height])
    return low, high


@dataclass(frozen=True)
class Window:
    """The part of the canvas that a polygon touches, and its coverage there."""
    rows: slice
    columns: slice
    alpha: np.ndarray  # float32 [h, w], 0..1

    @classmethod
    def of(cls, polygon: np.ndarray, height: int, width: int) -> "Window":
        low, high = _window_corners(polygon, 1, height, width)
        size = high - low
        picture = Image.new("L", tuple((size * SUPERSAMPLE).tolist()))
        # Pillow counts from pixel centres, COCO from pixel corners.
        corners = (polygon - low) * SUPERSAMPLE - 0.5
        ImageDraw.Draw(picture).polygon([tuple(c) for c in corners.tolist()], fill=255)
        alpha = np.asarray(picture.reduce(SUPERSAMPLE), dtype=np.float32) / 255
        return cls(slice(low[1], high[1]), slice(low[0], high[0]), alpha)

    def blend(self, canvas: np.ndarray, fill: np.ndarray) -> None:
        area = canvas[self.rows, self.columns]
        area += self.alpha[..., None] * (fill - area)


def shade(canvas: np.ndarray, polygon: np.ndarray, offset: np.ndarray, softness: float, strength: float) -> None:
    """Darken the canvas under `polygon` moved by `offset`: a soft shadow."""
    height, width = canvas.shape[:2]
    moved = polygon + offset
    margin = 2 * softness
    low, high = _window_corners(moved, margin, height, width)
    picture = Image.new("L", tuple((high - low).tolist()))
    ImageDraw.Draw(picture).polygon([tuple(c) for c in (moved - low).tolist()], fill=255)
    shadow = np.asarray(picture.filter(ImageFilter.BoxBlur(float(softness))), dtype=np.float32)
    canvas[low[1]:high[1], low[0]:high[0]] *= (1 - strength / 255 * shadow)[..., None]


# ---- textures --------------------------------------------------------------------------------------------------

def _soft(wave: np.ndarray) -> np.ndarray:
    """A wave in -1..1 as bands in 0..1 with a short ramp between them."""
    return np.clip(wave * 2.5 + 0.5, 0, 1)


def _checked(u, v, rng):
    period = np.pi * rng.uniform(2.2, 3.4)
    return _soft(2 * np.sin(period * u) * np.sin(period * v))


def _dotted(u, v, rng):
    cells = rng.uniform(2.2, 3.2)
    return _soft(1.5 * (np.cos(2 * np.pi * cells * u) + np.cos(2 * np.pi * cells * v) - 0.55))


def _marbled(u, v, rng):
    bend = sum(rng.uniform(0.5, 1) / k * np.sin(k * 3 * (u * np.cos(a) + v * np.sin(a)) + p)
               for k, a, p in zip((1, 2, 3), rng.uniform(0, 2 * np.pi, 3), rng.uniform(0, 2 * np.pi, 3)))
    return _soft(0.8 * np.sin(rng.uniform(5, 8) * u + 4.5 * bend))


def _plain(u, v, rng):
    return np.zeros_like(u)


def _striped(u, v, rng):
    return _soft(1.5 * np.sin(2 * np.pi * rng.uniform(1.7, 2.7) * u))


TEXTURES = {"checked": _checked, "dotted": _dotted, "marbled": _marbled, "plain": _plain, "striped": _striped}


def _object_coordinates(view: np.ndarray, window: Window, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the window lies on the object, turned by `turn`: u, v float32 [h, w]."""
    x = np.arange(window.columns.start, window.columns.stop, dtype=np.float32) + 0.5
    y = np.arange(window.rows.start, window.rows.stop, dtype=np.float32)[:, None] + 0.5
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    back = np.float32(rotation @ np.linalg.inv(view))
    depth = 1 / (back[2, 0] * x + back[2, 1] * y + back[2, 2])
    u, v = (row[0] * x + row[1] * y + row[2] for row in back[:2])
    return u * depth, v * depth


@dataclass(frozen=True)
class Look:
    """How an object is painted; chosen before painting, so that the layout alone can be replayed cheaply."""
    texture: str
    contrast: float       # least luma difference of its two colours, and to the ground around it
    shadow: bool


def paint_object(rng: np.random.Generator, canvas: np.ndarray, view: np.ndarray, outline: np.ndarray,
                 look: Look) -> None:
    """Draw the outline seen through `view` with its texture, its own light and a shadow on what lies behind."""
    height, width = canvas.shape[:2]
    polygon = project(view, outline)
    window = Window.of(polygon, height, width)
    ground = canvas[window.rows, window.columns].mean(axis=(0, 1))
    extent = np.ptp(polygon, axis=0).max()
    if look.shadow:
        shade(canvas, polygon, rng.uniform(-0.08, 0.08, 2) * extent, 0.04 * extent, rng.uniform(0.3, 0.6))
    first = colour_away_from(rng, [ground], look.contrast)
    second = colour_away_from(rng, [first], look.contrast)
    u, v = _object_coordinates(view, window, rng.uniform(0, 2 * np.pi))
    pattern = TEXTURES[look.texture](u, v, rng)[..., None]
    fill = rough_surface(rng, first, *window.alpha.shape, rng.uniform(3, 9))
    fill += pattern * (second - first)
    slope = rng.normal(0, 0.13, 2)
    fill *= np.clip(1 + np.float32(slope[0]) * u + np.float32(slope[1]) * v, 0.6, 1.4)[..., None]
    window.blend(canvas, fill)


# ---- the picture around the objects ----------------------------------------------------------------------------

def paint_blob(rng: np.random.Generator, canvas: np.ndarray, centre: np.ndarray, radius: float) -> None:
    height, width = canvas.shape[:2]
    polygon = blob(rng, centre, radius)
    shade(canvas, polygon, rng.uniform(-0.1, 0.1, 2) * radius, 0.1 * radius, rng.uniform(0.1, 0.5))
    window = Window.of(polygon, height, width)
    fill = rough_surface(rng, random_colour(rng), *window.alpha.shape, rng.uniform(5, 22))
    window.blend(canvas, fill)


def background(rng: np.random.Generator, height: int, width: int, clutter: int) -> np.ndarray:
    """A rough ground with `clutter` blobs of falling size on it: float32 canvas [height, width, 3]."""
    canvas = rough_surface(rng, random_colour(rng), height, width, rng.uniform(12, 30))
    for number in range(clutter):
        radius = min(height, width) * rng.uniform(0.12, 0.5) / (1 + 0.35 * number)
        paint_blob(rng, canvas, rng.uniform([0, 0], [width, height]), radius)
    return canvas


def light(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """Multiply by a linear gradient and a vignette, in place."""
    height, width = canvas.shape[:2]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)
    slope = np.float32(rng.normal(0, 0.16, 2))
    gain = 1 + slope[0] * x + slope[1] * y - np.float32(rng.uniform(0, 0.14)) * (x * x + y * y)
    canvas *= np.maximum(gain, 0.35)[..., None]


def photograph(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """What a small camera makes of the canvas: slight blur, exposure, sensor noise; uint8 [height, width, 3]."""
    height, width = canvas.shape[:2]
    exposed = np.clip(canvas * np.float32(rng.uniform(0.85, 1.15)), 0, 255).astype(np.uint8)
    blurred = Image.fromarray(exposed).filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.1))))
    picture = np.asarray(blurred, dtype=np.float32)
    level = rng.uniform(1.0, 4.5)
    grain = np.stack([noise(rng, height, width, 0) for _ in range(3)], axis=-1)
    picture = picture + np.float32(level) * grain
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)
