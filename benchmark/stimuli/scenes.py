# SPDX-License-Identifier: Apache-2.0
"""Scenes of the simulated image set: who does what to whom, where, in which colours, and the picture of it.

A scene has two actors with a kind, a colour, a size and a number each, a relation from the first to the second, a place
and a manner. The kinds fall into people, animals, food and things, so that contrasts of them have a known answer. The
picture draws every fact: one shape and filling a kind, the colour as it is, sizes, copies, positions for the spatial relations,
a mark that points from the one who acts to the other for the actions, and one background a place.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]
FloatArray = NDArray[np.float64]

# kind -> (what it belongs to, shape, filling)
KINDS: Final = {
    "child": ("people", "disc", "solid"),
    "woman": ("people", "triangle", "solid"),
    "man": ("people", "square", "solid"),
    "dancer": ("people", "star", "solid"),
    "dog": ("animals", "diamond", "solid"),
    "cat": ("animals", "cross", "solid"),
    "bird": ("animals", "wedge", "solid"),
    "horse": ("animals", "ring", "solid"),
    "apple": ("food", "disc", "striped"),
    "cake": ("food", "triangle", "striped"),
    "pizza": ("food", "square", "striped"),
    "banana": ("food", "star", "striped"),
    "ball": ("things", "diamond", "striped"),
    "box": ("things", "cross", "striped"),
    "kite": ("things", "wedge", "striped"),
    "car": ("things", "ring", "striped"),
}
COLOURS: Final = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 215, 50),
    "purple": (150, 60, 190),
    "white": (245, 245, 245),
}
SIZES: Final = ("small", "large")
COUNTS: Final = (1, 2, 3)
ACTIONS: Final = ("chase", "hold", "watch", "push")
SPATIAL: Final = ("left of", "above", "behind")
RELATIONS: Final = ACTIONS + SPATIAL
MANNERS: Final = ("slowly", "quietly", "happily", "calmly")
# place -> colours of the upper and the lower part of the picture
PLACES: Final = {
    "beach": ((140, 200, 240), (230, 205, 150)),
    "park": ((170, 210, 240), (90, 150, 80)),
    "street": ((160, 160, 170), (90, 90, 95)),
    "kitchen": ((225, 215, 200), (170, 120, 80)),
    "field": ((200, 225, 250), (190, 190, 90)),
    "snow": ((190, 200, 215), (250, 250, 252)),
}
PICTURE_PX: Final = 64


@dataclass(frozen=True)
class Actor:
    """One side of a relation."""

    kind: str
    colour: str
    size: str
    count: int


@dataclass(frozen=True)
class Scene:
    """``first`` stands in ``relation`` to ``second``, at ``place``, in a ``manner``."""

    first: Actor
    relation: str
    second: Actor
    place: str
    manner: str

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset({self.first.kind, self.second.kind})


def draw_scene(rng: np.random.Generator) -> Scene:
    """A scene of independent, equally likely parts; the two actors are of different kinds."""
    first = int(rng.integers(len(KINDS)))
    second = (first + 1 + int(rng.integers(len(KINDS) - 1))) % len(KINDS)
    kinds = list(KINDS)
    return Scene(
        _draw_actor(kinds[first], rng),
        _pick(RELATIONS, rng),
        _draw_actor(kinds[second], rng),
        _pick(list(PLACES), rng),
        _pick(MANNERS, rng),
    )


def _draw_actor(kind: str, rng: np.random.Generator) -> Actor:
    return Actor(kind, _pick(list(COLOURS), rng), _pick(SIZES, rng), COUNTS[int(rng.integers(len(COUNTS)))])


def _pick(names: Sequence[str], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]


def picture(scene: Scene, rng: np.random.Generator, size: int = PICTURE_PX) -> UInt8Array:
    """(size, size, 3) uint8 RGB. ``rng`` moves things a little and draws the grain of the background."""
    image = _background(scene.place, size, rng)
    (ax, ay), (bx, by) = _positions(scene.relation, rng)
    order = ((scene.first, ax, ay), (scene.second, bx, by))  # the second is drawn last: what is behind is covered
    for actor, x, y in order:
        _draw_copies(image, actor, x + rng.normal(0, 0.015), y + rng.normal(0, 0.015))
    if scene.relation in ACTIONS:
        _draw_mark(image, ACTIONS.index(scene.relation), (ax, ay), (bx, by))
    return np.clip(image, 0, 255).astype(np.uint8)


def _background(place: str, size: int, rng: np.random.Generator) -> FloatArray:
    upper, lower = (np.array(colour, dtype=np.float64) for colour in PLACES[place])
    horizon = int(size * rng.uniform(0.4, 0.6))
    image = np.empty((size, size, 3))
    image[:horizon], image[horizon:] = upper, lower
    image += rng.normal(0, 6, (size, size, 1))
    return image * rng.uniform(0.85, 1.1)


def _positions(relation: str, rng: np.random.Generator) -> tuple[tuple[float, float], tuple[float, float]]:
    """Centres of the two actors in shares of the picture."""
    if relation == "above":
        return (0.5, 0.25), (0.5, 0.75)
    if relation == "behind":
        return (0.44, 0.44), (0.56, 0.6)
    left, right = (0.25, 0.5), (0.75, 0.5)
    return (left, right) if relation == "left of" or rng.random() < 0.5 else (right, left)


def _draw_copies(image: FloatArray, actor: Actor, x: float, y: float) -> None:
    size = image.shape[0]
    radius = size * (0.11 if actor.size == "small" else 0.17) / np.sqrt(actor.count)
    for copy in range(actor.count):
        offset = (copy - (actor.count - 1) / 2) * 2.1 * radius
        shape, filling = KINDS[actor.kind][1:]
        mask = _mask(shape, size, x * size, y * size + offset, radius)
        if filling == "striped":
            mask = mask & _stripes(size)
        image[mask] = COLOURS[actor.colour]


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[FloatArray, FloatArray]:
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float64)
    return rows, columns


@lru_cache(maxsize=4)
def _stripes(size: int) -> NDArray[np.bool_]:
    rows, columns = _grid(size)
    stripes: NDArray[np.bool_] = (rows + columns) % 4 < 2
    return stripes


def _mask(shape: str, size: int, x: float, y: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = _grid(size)
    u, v = (columns - x) / radius, (rows - y) / radius
    distance = np.hypot(u, v)
    masks: dict[str, Callable[[], NDArray[np.bool_]]] = {
        "disc": lambda: distance <= 1,
        "square": lambda: np.maximum(abs(u), abs(v)) <= 0.85,
        "triangle": lambda: (v <= 0.8) & (v >= 2 * abs(u) - 1),
        "diamond": lambda: abs(u) + abs(v) <= 1.1,
        "cross": lambda: (np.minimum(abs(u), abs(v)) <= 0.35) & (np.maximum(abs(u), abs(v)) <= 1),
        "ring": lambda: (distance <= 1) & (distance >= 0.55),
        "star": lambda: distance <= 0.65 + 0.35 * np.cos(5 * np.arctan2(u, v)),
        "wedge": lambda: (u >= -0.9) & (abs(v) <= 0.55 * (0.9 - u)) & (u <= 0.9),
    }
    return masks[shape]()


def _draw_mark(image: FloatArray, action: int, start: tuple[float, float], stop: tuple[float, float]) -> None:
    """A dark head that points from the one who acts to the other; its height and length say which action it is."""
    size = image.shape[0]
    rows, columns = _grid(size)
    direction = np.sign(stop[0] - start[0])
    tip = size * (0.5 + 0.08 * direction)
    along = (tip - columns) * direction / size  # 0 at the tip, grows towards the one who acts
    across = abs(rows / size - 0.5)
    length, width = 0.08 + 0.05 * (action % 2), 0.06 + 0.06 * (action // 2)
    image[(along >= 0) & (along <= length) & (across <= along / length * width)] = (20, 20, 20)
