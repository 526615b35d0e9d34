"""The 20 outlines of the embedded benchmark: simple polygons in the unit disc, y pointing down as in pictures.

COCO polygons know no holes, so every outline is one closed curve; `SHAPES[name]` is a float array [N, 2].
"""
from __future__ import annotations

import numpy as np


def _polar(radius: np.ndarray, angle: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)


def _turn(count: int, start: float = -np.pi / 2) -> np.ndarray:
    return start + 2 * np.pi * np.arange(count) / count


def _regular(corners: int) -> np.ndarray:
    return _polar(np.ones(corners), _turn(corners))


def _star(points: int, inner: float) -> np.ndarray:
    return _polar(np.where(np.arange(2 * points) % 2 == 0, 1.0, inner), _turn(2 * points))


def _gear(teeth: int) -> np.ndarray:
    high = np.array([0, 1, 1, 0])
    return _polar(np.where(np.tile(high, teeth), 1.0, 0.72), _turn(4 * teeth))


def _flower(petals: int) -> np.ndarray:
    angle = _turn(120)
    return _polar(0.68 + 0.32 * np.cos(petals * angle), angle)


def _heart() -> np.ndarray:
    t = _turn(64)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y], axis=-1)


def _crescent() -> np.ndarray:
    outer = _polar(np.ones(40), np.linspace(0.35 * np.pi, 1.65 * np.pi, 40))
    tip = outer[-1]
    centre, radius = tip[0], abs(tip[1])
    inner = _polar(np.full(30, radius), np.linspace(1.5 * np.pi, 0.5 * np.pi, 30)) * [0.75, 1] + [centre, 0]
    return np.concatenate([outer, inner[1:-1]])


def _drop() -> np.ndarray:
    t = _turn(64, 0)
    return np.stack([0.62 * np.sin(t) * np.sin(t / 2) ** 1.5, -np.cos(t)], axis=-1)


def _half_disc() -> np.ndarray:
    return _polar(np.ones(40), np.linspace(0, np.pi, 40))


def _horseshoe() -> np.ndarray:
    angle = np.linspace(0, np.pi, 28)
    outer, inner = _polar(np.ones(28), np.pi + angle), _polar(np.full(28, 0.5), -angle)
    legs = 0.85
    return np.concatenate([[[-1, legs]], outer, [[1, legs], [0.5, legs]], inner, [[-0.5, legs]]])


def _fish() -> np.ndarray:
    t = np.linspace(0.12 * np.pi, 1.88 * np.pi, 48)
    body = np.stack([0.68 * np.cos(t) - 0.3, 0.52 * np.sin(t)], axis=-1)
    return np.concatenate([body, [[0.95, -0.6], [0.72, 0], [0.95, 0.6]]])


def _key() -> np.ndarray:
    t = np.linspace(0.1 * np.pi, 1.9 * np.pi, 40)
    bow = np.stack([0.46 * np.cos(t) - 0.54, 0.46 * np.sin(t)], axis=-1)
    shaft = [[1, -0.13], [1, 0.42], [0.8, 0.42], [0.8, 0.13], [0.6, 0.13], [0.6, 0.42], [0.4, 0.42], [0.4, 0.13]]
    return np.concatenate([bow, shaft])


def _mushroom() -> np.ndarray:
    cap = _polar(np.ones(40), np.linspace(np.pi, 2 * np.pi, 40)) * [1, 0.9]
    stem = [[0.3, 0.0], [0.24, 0.45], [0.4, 0.9], [-0.4, 0.9], [-0.24, 0.45], [-0.3, 0.0]]
    return np.concatenate([cap, stem])


_CORNERS = {
    "arrow": [(0, -1), (0.75, -0.15), (0.3, -0.15), (0.3, 1), (-0.3, 1), (-0.3, -0.15), (-0.75, -0.15)],
    "bolt": [(0.25, -1), (-0.6, 0.15), (-0.08, 0.15), (-0.3, 1), (0.6, -0.25), (0.06, -0.25)],
    "cross": [(-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3),
              (0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3)],
    "crown": [(-1, -0.6), (-0.5, 0), (0, -0.8), (0.5, 0), (1, -0.6), (0.8, 0.7), (-0.8, 0.7)],
    "hourglass": [(-0.75, -1), (0.75, -1), (0.14, 0), (0.75, 1), (-0.75, 1), (-0.14, 0)],
    "square": [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    "tee": [(-0.9, -1), (0.9, -1), (0.9, -0.4), (0.3, -0.4), (0.3, 1), (-0.3, 1), (-0.3, -0.4), (-0.9, -0.4)],
}

_CURVES = {
    "circle": _regular(48), "crescent": _crescent(), "drop": _drop(), "fish": _fish(), "flower": _flower(5),
    "gear": _gear(8), "half_disc": _half_disc(), "heart": _heart(), "horseshoe": _horseshoe(), "key": _key(),
    "mushroom": _mushroom(), "star": _star(5, 0.42), "triangle": _regular(3),
}


def _fit(outline) -> np.ndarray:
    """Centred on its bounding box, the farthest vertex at distance 1."""
    outline = np.asarray(outline, dtype=np.float64)
    outline = outline - (outline.max(axis=0) + outline.min(axis=0)) / 2
    return outline / np.linalg.norm(outline, axis=1).max()


SHAPES: dict[str, np.ndarray] = {name: _fit(outline) for name, outline in sorted((_CORNERS | _CURVES).items())}
