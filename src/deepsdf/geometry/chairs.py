"""Parametric chairs: generated training shapes that need no download.

A chair is a `ChairDesign`, a few styles and dimensions, built by constructive solid geometry into one watertight mesh.
Styles are few and dimensions continuous, so that a shape space learned from some fifty chairs can generalise. No part
is thinner than 3.5 % of the chair's height.

Mesh frame: metres, y up, standing on y = 0, centred on the y axis, facing +z.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import trimesh
from numpy.typing import ArrayLike, NDArray

from deepsdf.errors import InputError

if TYPE_CHECKING:
    from manifold3d import Manifold

Array: TypeAlias = NDArray[np.float64]

_MARGIN = 0.008
"""Metres by which parts end inside the part that carries them, so that no two faces coincide: more than `_WELD`, and
less than half the thinnest part (25 mm)."""

_ARC_STEPS = 8
"""Segments of a rounded corner. At a right angle they leave the arc by 0.5 % of its radius: 1 - cos(90° / 16)."""

_WELD = 1e-4
"""Metres: slivers narrower than this are merged. It is 0.4 % of the thinnest part."""

# Cross sections of width 1: a square, and a regular polygon that deviates from its circle by 1 %, 1 - cos(180° / 20).
_SQUARE: Array = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
_TURN = 2.0 * np.pi * (np.arange(20) + 0.5) / 20
_ROUND: Array = 0.5 * np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


@dataclass(frozen=True)
class ChairDesign:
    """Styles and dimensions of one chair. Lengths in metres, mesh frame; `recline` in degrees."""

    legs: Literal["square", "round", "frame", "pedestal"]
    back: Literal["solid", "slats", "ladder", "frame"]
    arms: Literal["none", "posts", "solid"]
    stretchers: bool
    seat_width: float
    seat_depth: float
    seat_height: float  # of the upper face
    seat_thickness: float
    seat_taper: float  # width at the rear over width at the front
    seat_corner: float  # radius
    leg_width: float
    leg_taper: float  # width at the floor over width at the seat
    leg_splay: float  # outward offset of the feet from the tops of the legs
    stretcher_level: float  # height, as a fraction of the leg
    stretcher_width: float
    back_height: float  # above the seat
    back_thickness: float
    back_flare: float  # width at the top over width at the seat
    back_corner: float  # radius of the upper corners; half the width makes an arch
    rail_width: float
    bars: int
    bar_width: float
    recline: float
    arm_height: float  # above the seat
    arm_width: float
    arm_reach: float  # length, as a fraction of the seat's depth

    @classmethod
    def sample(cls, rng: np.random.Generator) -> ChairDesign:
        """A random design. All dimensions are drawn, also those that the style does not use."""

        def pick(**weights: float) -> Any:
            return list(weights)[int(rng.choice(len(weights), p=list(weights.values())))]

        uniform = rng.uniform
        seat_height, back_height = uniform(0.40, 0.50), uniform(0.32, 0.56)
        height = seat_height + back_height
        width, taper, corner = uniform(0.42, 0.56), uniform(0.84, 1.0), uniform(0.01, 0.09)
        arms = pick(none=0.5, posts=0.25, solid=0.25)
        arm_height = min(uniform(0.18, 0.25), 0.68 * back_height)
        # Arms end in the back: at their height it must still have its full width, below the rounded corners.
        room = back_height - 0.05 - (arm_height if arms != "none" else 0.0)
        return cls(
            legs=pick(square=0.35, round=0.25, frame=0.2, pedestal=0.2),
            back=pick(solid=0.4, slats=0.2, ladder=0.2, frame=0.2),
            arms=arms,
            stretchers=bool(rng.random() < 0.35),
            seat_width=width,
            seat_depth=uniform(0.40, 0.52),
            seat_height=seat_height,
            seat_thickness=uniform(0.045, 0.09),
            seat_taper=taper,
            seat_corner=corner,
            leg_width=height * uniform(0.062, 0.09),
            leg_taper=uniform(0.8, 1.0),
            leg_splay=uniform(0.0, 0.06),
            stretcher_level=uniform(0.25, 0.5),
            stretcher_width=height * uniform(0.038, 0.045),
            back_height=back_height,
            back_thickness=height * uniform(0.04, 0.06),
            back_flare=uniform(0.9, 1.1),
            back_corner=uniform(0.02, min(0.4 * width * taper, room)),
            rail_width=height * uniform(0.05, 0.07),
            bars=2,
            bar_width=height * uniform(0.045, 0.06),
            recline=uniform(3.0, 14.0),
            arm_height=arm_height,
            arm_width=height * uniform(0.045, 0.06),
            arm_reach=uniform(0.6, 0.95),
        )

    def build(self) -> trimesh.Trimesh:
        """The chair as one watertight component in the mesh frame, faces outward."""
        parts = [_seat(self), _back(self), *_arms(self)]
        if self.legs == "frame":
            parts.extend(_frame_legs(self))
        elif self.legs == "pedestal":
            parts.extend(_pedestal(self))
        else:
            parts.extend(_four_legs(self))
        # manifold3d merges slivers only between faces of the same original: make the sum of the parts one original.
        solid = functools.reduce(operator.add, parts).as_original().set_tolerance(_WELD).to_mesh()
        vertices = np.asarray(solid.vert_properties, dtype=np.float64)[:, :3]
        return trimesh.Trimesh(vertices, np.asarray(solid.tri_verts, dtype=np.int64), process=False)

    @property
    def seat_middle(self) -> float:
        """Height at which parts end inside the seat: half its thickness below the upper face."""
        return self.seat_height - 0.5 * self.seat_thickness

    @property
    def corner_inset(self) -> float:
        """Distance from both edges at which a point is safely inside the seat's rounded corner."""
        return _MARGIN + 0.3 * self.seat_corner

    def half_width(self, z: float) -> float:
        """Half the seat's width at depth z."""
        along = 0.5 - z / self.seat_depth
        return 0.5 * self.seat_width * (1.0 + along * (self.seat_taper - 1.0))


def generate_chair(seed: int | np.random.Generator) -> trimesh.Trimesh:
    """One random chair in the mesh frame (metres, y up, on y = 0, facing +z), watertight, faces outward.

    The same seed gives the same mesh. A generator is advanced, so that the next call gives another chair.
    """
    return ChairDesign.sample(np.random.default_rng(seed)).build()


def generate_chairs(count: int, seed: int) -> dict[str, trimesh.Trimesh]:
    """`count` random chairs by name, from "chair_000" on; see `generate_chair`.

    A larger count with the same seed starts with the same chairs.

    Raises:
        InputError: `count` is negative.
    """
    if count < 0:
        raise InputError(f"count is {count}; it must not be negative")
    streams = (np.random.default_rng([seed, index]) for index in range(count))
    return {f"chair_{index:03d}": generate_chair(stream) for index, stream in enumerate(streams)}


def _seat(chair: ChairDesign) -> Manifold:
    reach = 0.5 * chair.seat_depth
    front, rear = chair.half_width(reach), chair.half_width(-reach)
    corners = [(-rear, -reach), (rear, -reach), (front, reach), (-front, reach)]
    outline = _rounded(corners, [chair.seat_corner] * 4)
    return _prism(outline, 1, chair.seat_height - chair.seat_thickness, chair.seat_height)


def _leg_tops(chair: ChairDesign, width: float) -> Iterator[tuple[float, float]]:
    """Positions (x, z) of posts of this width at the corners of the seat: front -x, front +x, rear -x, rear +x."""
    inset = chair.corner_inset + 0.5 * width
    for z in (0.5 * chair.seat_depth - inset, inset - 0.5 * chair.seat_depth):
        x = chair.half_width(z) - inset
        yield -x, z
        yield x, z


def _four_legs(chair: ChairDesign) -> Iterator[Manifold]:
    section = _ROUND if chair.legs == "round" else _SQUARE
    foot_width = chair.leg_taper * chair.leg_width
    middles = []
    for x, z in _leg_tops(chair, chair.leg_width):
        foot = np.array([x + math.copysign(chair.leg_splay, x), 0.0, z + math.copysign(chair.leg_splay, z)])
        top = np.array([x, chair.seat_middle, z])
        yield _beam(foot, top, 1, foot_width, chair.leg_width, section)
        middles.append(foot + chair.stretcher_level * (top - foot))
    if chair.stretchers:
        front_left, front_right, rear_left, rear_right = middles
        width = chair.stretcher_width
        yield _beam(rear_left, front_left, 2, width, width, section)
        yield _beam(rear_right, front_right, 2, width, width, section)
        left, right = 0.5 * (rear_left + front_left), 0.5 * (rear_right + front_right)
        yield _beam(left, right, 0, width, width, section)


def _frame_legs(chair: ChairDesign) -> Iterator[Manifold]:
    """A closed frame under each side of the seat: runner on the floor, two uprights."""
    tops = list(_leg_tops(chair, chair.leg_width))
    front, rear = tops[0][1] + 0.5 * chair.leg_width, tops[2][1] - 0.5 * chair.leg_width
    inner_top = chair.seat_height - chair.seat_thickness - 0.5 * chair.leg_width
    width, splay = chair.leg_width, chair.leg_splay
    outer = [(0.0, rear - splay), (chair.seat_middle, rear), (chair.seat_middle, front), (0.0, front + splay)]
    inner = [
        (width, rear + width - splay),
        (inner_top, rear + width),
        (inner_top, front - width),
        (width, front - width + splay),
    ]
    x = min(tops[1][0], tops[3][0])
    corner = 0.01 + 0.5 * chair.seat_corner
    panel = _prism(np.asarray(outer), 0, -0.5 * width, 0.5 * width)
    side = panel - _prism(_rounded(inner, [corner] * 4), 0, -width, width)
    yield side.translate((-x, 0.0, 0.0))
    yield side.translate((x, 0.0, 0.0))


def _pedestal(chair: ChairDesign) -> Iterator[Manifold]:
    """A column on a cross of four tapered feet."""
    width = 1.2 * chair.leg_width
    hub, tip = np.array([0.0, 0.5 * width, 0.0]), 0.7 * width
    reach = 0.28 * (chair.seat_width + chair.seat_depth) + 0.5 * chair.leg_splay
    foot = _beam(hub, (reach, 0.5 * tip, 0.0), 0, width, (tip, chair.leg_taper * width), _SQUARE)
    for angle in (45.0, 135.0, 225.0, 315.0):
        yield foot.rotate((0.0, angle, 0.0))
    yield _beam(hub, (0.0, chair.seat_middle, 0.0), 1, 1.3 * width, 1.3 * chair.leg_taper * width, _ROUND)


def _back(chair: ChairDesign) -> Manifold:
    """A panel with rounded upper corners, with an opening and bars if the style has them, reclined."""
    thickness, height, bottom = chair.back_thickness, chair.back_height, -0.3 * chair.seat_thickness
    low, high = _back_half_width(chair, bottom), _back_half_width(chair, height)
    corner = chair.back_corner
    panel = _prism(_arch(low, high, bottom, height, corner), 2, -0.5 * thickness, 0.5 * thickness)
    if chair.back != "solid":
        rail = chair.rail_width
        low, high, top, corner = low - rail, high - rail, height - rail, max(corner - rail, 0.01)
        sill = 0.22 * height if chair.back == "frame" else 1.5 * bottom
        opening = _prism(_arch(low, high, sill, top, corner), 2, -thickness, thickness)
        panel -= functools.reduce(operator.sub, _bars(chair, max(low, high), top), opening)
    return panel.rotate((-chair.recline, 0.0, 0.0)).translate((0.0, chair.seat_height, _back_z(chair, 0.0)))


def _bars(chair: ChairDesign, half_width: float, top: float) -> Iterator[Manifold]:
    """Bars across the opening of the back, in the frame of the back before it is reclined."""
    if chair.back == "frame":
        return
    bar, upright = chair.bar_width, chair.back == "slats"
    span = 2.0 * half_width if upright else top
    # n bars leave n + 1 gaps: fewer bars if a gap would be narrower than 0.8 bars, which a small network would close.
    count = min(chair.bars, int(span / (1.8 * bar) - 0.45))
    size = (bar, 4.0 * chair.back_thickness)
    for index in range(1, count + 1):
        at = span * index / (count + 1)
        if upright:
            x, reach = at - half_width, 2.0 * chair.back_height
            yield _beam((x, -reach, 0.0), (x, reach, 0.0), 1, size, size, _SQUARE)
        else:
            yield _beam((-2.0 * half_width, at, 0.0), (2.0 * half_width, at, 0.0), 0, size, size, _SQUARE)


def _arch(low: float, high: float, bottom: float, top: float, corner: float) -> Array:
    """Outline in (x, y) of half width `low` at the bottom and `high` at the top, with rounded upper corners."""
    corners = [(-low, bottom), (low, bottom), (high, top), (-high, top)]
    return _rounded(corners, [0.0, 0.0, corner, corner])


def _back_half_width(chair: ChairDesign, y: float) -> float:
    """Half the width of the back at distance y along it, before its corners are rounded."""
    bottom = chair.half_width(-0.5 * chair.seat_depth) - chair.corner_inset
    return bottom * (1.0 + (chair.back_flare - 1.0) * y / chair.back_height)


def _back_z(chair: ChairDesign, y: float) -> float:
    """z of the middle of the back at height y above the seat."""
    at_seat = -0.5 * chair.seat_depth + chair.corner_inset + 0.5 * chair.back_thickness
    return at_seat - y * math.tan(math.radians(chair.recline))


def _arms(chair: ChairDesign) -> Iterator[Manifold]:
    if chair.arms == "none":
        return
    width, y, root = chair.arm_width, chair.seat_height + chair.arm_height, chair.seat_middle
    inset = chair.corner_inset + 0.5 * width
    front_z = (chair.arm_reach - 0.5) * chair.seat_depth - inset
    front_x = chair.half_width(front_z) - inset
    rear_z = _back_z(chair, chair.arm_height)
    rear_x = _back_half_width(chair, chair.arm_height) - 0.5 * chair.rail_width
    for side in (-1.0, 1.0):
        front, rear = np.array([side * front_x, y, front_z]), np.array([side * rear_x, y, rear_z])
        tip = front + np.array([0.0, 0.0, 0.5 * width])
        if chair.arms == "posts":
            yield _beam(rear, tip, 2, width, width, _SQUARE)
            yield _beam((front[0], root, front_z), front, 1, width, width, _SQUARE)
        else:
            floor = [(side * (chair.half_width(z) - inset), root, z) for z in (_back_z(chair, 0.0), tip[2])]
            across = np.array([0.5 * width, 0.0, 0.0])
            edge = np.array([*floor, rear, tip])
            yield _hull(np.concatenate([edge - across, edge + across]))


def _hull(points: Array) -> Manifold:
    from manifold3d import Manifold

    return Manifold.hull_points(np.ascontiguousarray(points))


def _prism(outline: Array, axis: int, low: float, high: float) -> Manifold:
    """Prism over a convex outline (m, 2) in the other two coordinates, in their order, from low to high along
    `axis`."""
    return _hull(np.concatenate([np.insert(outline, axis, value, axis=1) for value in (low, high)]))


def _beam(
    start: ArrayLike, end: ArrayLike, axis: int, start_size: ArrayLike, end_size: ArrayLike, section: Array
) -> Manifold:
    """Straight beam whose unit cross section, perpendicular to `axis`, is scaled to the size at each end."""
    ends = []
    for centre, size in ((start, start_size), (end, end_size)):
        ends.append(np.insert(section * np.asarray(size), axis, 0.0, axis=1) + np.asarray(centre))
    return _hull(np.concatenate(ends))


def _rounded(corners: list[tuple[float, float]], radii: list[float]) -> Array:
    """Convex outline (m, 2) of a polygon with each corner replaced by an arc; radius 0 keeps the corner."""
    # The centre of the arc lies on the bisector, radius / sin(half angle) from the corner; the arc turns by 180 degrees
    # less the angle, symmetrically about the bisector.
    polygon = np.asarray(corners, dtype=np.float64)
    outline = []
    for index, (corner, radius) in enumerate(zip(polygon, radii, strict=True)):
        before = _unit(polygon[index - 1] - corner)
        after = _unit(polygon[(index + 1) % len(polygon)] - corner)
        inward, across = _unit(before + after), _unit(after - before)
        half_angle = 0.5 * math.acos(float(before @ after))
        half_turn = 0.5 * math.pi - half_angle
        turns = np.linspace(-half_turn, half_turn, _ARC_STEPS + 1 if radius else 1)
        centre = corner + inward * (radius / math.sin(half_angle))
        outline.append(centre + radius * (np.outer(np.sin(turns), across) - np.outer(np.cos(turns), inward)))
    return np.concatenate(outline)


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)
