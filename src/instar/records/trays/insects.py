"""The anatomy of drawn insects, spiders and springtails, and of what they leave lying about.

World units are body lengths; the body's middle is the origin, x points forward, y left and z up.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from instar.records.drawing import rgb
from instar.records.solids import MARGIN_PX, Bands, Ellipsoid, Limb, Material, Solid, extent, render, view_matrix
from instar.records.trays.spec import Form

Rng = np.random.Generator

#: How an animal came to lie: share, lowest and highest elevation of the camera above its plane, degrees.
LYING = ((0.42, 55.0, 90.0), (0.38, -12.0, 28.0), (0.2, -90.0, -55.0))

#: Radius below which legs and antennae are not seen, pixels.
FAINT_PX = 0.15


@dataclass(frozen=True)
class Sprite:
    """Something on nothing."""

    rgba: np.ndarray  # uint8, shape (height, width, 4), RGB premultiplied by how much of the ground it hides
    cover: np.ndarray  # bool, shape (height, width): the pixels that are its own, clear wings among them, in one piece


@dataclass(frozen=True)
class Wing:
    """A flat wing: its outline in world units, shape (n, 3), the hinge first."""

    outline: np.ndarray
    colour: np.ndarray  # RGB in [0, 1]
    opacity: float
    pattern: float


def individual(form: Form, rng: Rng, *, pale: bool) -> Form:
    """One individual's form: proportions and colours slightly off; pale ones are bleached and half clear."""
    changed: dict[str, Any] = {
        name: getattr(form, name) * float(np.clip(rng.normal(1, 0.1), 0.7, 1.4))
        for name in ("abdomen_width", "abdomen_height", "thorax_width", "leg_length", "wing_length", "wing_width")
    }
    light, tint = rng.normal(1, form.variation), rng.normal(1, 0.03, 3)
    for name in ("colour", "head_colour", "abdomen_colour", "band_colour", "leg_colour", "wing_colour"):
        colour = np.clip(rgb(getattr(form, name)) * light * tint, 0, 1)
        if pale:
            colour = colour + 0.72 * (np.array([0.83, 0.79, 0.68]) - colour)
        changed[name] = "#" + "".join(f"{round(channel * 255):02x}" for channel in colour)
    clear = max(form.translucency, 0.3) if pale else form.translucency
    return replace(form, **changed, translucency=clear)


def insect(form: Form, *, length_px: float, light: np.ndarray, rng: Rng) -> Sprite:
    """One animal, lying as it fell.

    Args:
        form: of the individual.
        length_px: of its body without legs, antennae and wings, pixels.
        light: unit vector towards the light in camera coordinates, shape (3,).
        rng: of the pose.
    """
    share = np.array([lying[0] for lying in LYING])
    _, low, high = LYING[rng.choice(len(LYING), p=share / share.sum())]
    view = view_matrix(heading_deg=rng.uniform(0, 360), elevation_deg=rng.uniform(low, high))
    solids = [
        solid
        for solid in solids_of(form, rng)
        if isinstance(solid, Ellipsoid) or solid.start_radius * length_px >= FAINT_PX
    ]
    return _picture(solids, wings_of(form, rng), view, form, length_px, light, rng)


def solids_of(form: Form, rng: Rng) -> list[Solid]:
    """Head, thorax, abdomen, legs and antennae; a leg may be missing."""
    front = 0.5 - form.head_length
    rear = front - form.thorax_length
    thorax = np.array([(front + rear) / 2, 0, 0])
    solids: list[Solid] = [
        Ellipsoid(
            thorax,
            np.array([form.thorax_length * 0.56, form.thorax_width / 2, form.thorax_height / 2]),
            rgb(form.colour),
            form.gloss,
        ),
        *_head(form, rng),
        *_abdomen(form, rear, rng),
    ]
    for pair in range(form.legs):
        start = rear + form.thorax_length * (0.85 - 0.75 * pair / max(form.legs - 1, 1))
        direction = 40 + 105 * pair / max(form.legs - 1, 1)
        for side in (-1, 1):
            if rng.random() > 0.08:
                solids += _leg(form, np.array([start, side * form.thorax_width * 0.35, -0.05]), direction, side, rng)
    return solids


def _head(form: Form, rng: Rng) -> list[Solid]:
    nod = np.deg2rad(rng.normal(12, 14))
    centre = np.array([0.5 - form.head_length * 0.55, 0, -0.5 * form.head_length * np.sin(nod)])
    radii = np.array([form.head_length * 0.55, form.head_width / 2, form.head_width * 0.48])
    solids: list[Solid] = [Ellipsoid(centre, radii, rgb(form.head_colour), form.gloss)]
    for side in (-1, 1):
        eye = centre + np.array([0.1 * form.head_length, side * form.head_width * 0.42, form.head_width * 0.12])
        if form.eye > 0:
            solids.append(Ellipsoid(eye, np.full(3, form.eye), rgb(form.eye_colour), 0.7))
        if form.antenna_length > 0:
            solids += _antenna(form, centre + np.array([radii[0] * 0.7, side * radii[1] * 0.3, 0]), side, rng)
    return solids


def _antenna(form: Form, root: np.ndarray, side: int, rng: Rng) -> list[Solid]:
    angle = np.deg2rad(side * rng.normal(30, 14) + np.array([0, side * rng.normal(15, 14)]))
    step = form.antenna_length / 2
    points = [root]
    for turn in angle.cumsum():
        points.append(points[-1] + step * np.array([np.cos(turn), np.sin(turn), rng.normal(0, 0.2)]))
    width = form.leg_width * 0.4
    return [Limb(a, b, width, width * 0.8, rgb(form.leg_colour), 0.2) for a, b in pairwise(points)]


def _abdomen(form: Form, thorax_rear: float, rng: Rng) -> list[Solid]:
    front = thorax_rear - form.waist
    length = front + 0.5
    bend, yaw = np.deg2rad(form.bend_deg + rng.normal(0, 0.7 * form.bend_deg + 3)), np.deg2rad(rng.normal(0, 7))
    axis = -np.array([np.cos(bend) * np.cos(yaw), np.sin(yaw), np.sin(bend)])
    start = np.array([front + 0.04, 0, 0.0])
    side = np.array([-axis[1], axis[0], 0]) / np.hypot(axis[0], axis[1])
    turn = np.column_stack([-axis, -side, np.cross(-axis, -side)])
    bands = None
    if form.bands:
        bands = Bands(rgb(form.band_colour), 0.38, 0.0, float(form.bands))
    radii = np.array([length / 2 + 0.02, form.abdomen_width / 2, form.abdomen_height / 2])
    solids: list[Solid] = [
        Ellipsoid(start + axis * length / 2, radii, rgb(form.abdomen_colour), form.gloss, turn, bands)
    ]
    if form.waist > 0:
        solids.append(
            Limb(np.array([thorax_rear + 0.05, 0, 0]), start + axis * 0.04, 0.035, 0.035, rgb(form.colour), form.gloss)
        )
    if form.wings in ("elytra", "half"):
        solids += _cases(form, start, axis, side, length, rng)
    return solids


def _cases(form: Form, start: np.ndarray, axis: np.ndarray, side: np.ndarray, length: float, rng: Rng) -> list[Solid]:
    """Two hard wings that lie on the abdomen, seldom ajar."""
    reach = length * (1.0 if form.wings == "elytra" else 0.62) * min(form.wing_length, 1.1)
    up = np.cross(side, axis)
    up *= np.sign(up[2])
    ajar = abs(rng.normal(0, 0.35)) if rng.random() < 0.2 else 0.02
    cases: list[Solid] = []
    for sign in (-1, 1):
        turned = axis * np.cos(ajar) + sign * side * np.sin(ajar)
        across = side * np.cos(ajar) - sign * axis * np.sin(ajar)
        frame = np.column_stack([turned, across, np.cross(turned, across)])
        radii = np.array([reach / 2 + 0.04, form.abdomen_width * 0.33, form.abdomen_height * 0.4])
        middle = start + turned * reach / 2 + sign * across * form.abdomen_width * 0.2 + up * form.abdomen_height * 0.2
        bands = Bands(rgb(form.band_colour), 0.3, 0.0, 2.0) if form.wing_pattern > 0.5 else None
        cases.append(Ellipsoid(middle, radii, rgb(form.wing_colour), form.gloss, frame, bands))
    return cases


def _leg(form: Form, root: np.ndarray, direction_deg: float, side: int, rng: Rng) -> list[Solid]:
    """Thigh, shank and foot; most legs of the dead are drawn in."""
    colour, width = rgb(form.leg_colour), form.leg_width
    folded = rng.uniform(0.15, 1.0)
    angle = np.deg2rad(direction_deg + rng.normal(0, 16)) * side
    out = np.array([np.cos(angle), np.sin(angle), 0])
    knee = root + form.leg_length * 0.42 * (out * folded + np.array([0, 0, 0.5 - folded * 0.3]))
    bent = angle + side * rng.normal(0.3, 0.5)
    out = np.array([np.cos(bent), np.sin(bent), 0])
    ankle = knee + form.leg_length * 0.4 * (out * (1.2 * folded - 0.3) + np.array([0, 0, -0.8]))
    toe = ankle + form.leg_length * 0.25 * (out * rng.uniform(0.3, 1) + np.array([0, 0, rng.uniform(-0.4, 0)]))
    return [
        Limb(root, knee, width, width * 0.75, colour, 0.3),
        Limb(knee, ankle, width * 0.65, width * 0.45, colour, 0.3),
        Limb(ankle, toe, width * 0.4, width * 0.3, colour, 0.3),
    ]


def wings_of(form: Form, rng: Rng) -> list[Wing]:
    """The flat wings; one may have come off."""
    pairs = {"fly": 1, "clear": 2, "scaled": 2, "half": 1}.get(form.wings, 0)
    front = 0.5 - form.head_length
    wings = []
    fold, spread = rng.uniform(-0.25, 0.9), form.wing_spread_deg + rng.normal(0, 16)
    for pair in reversed(range(pairs)):
        shrink = 1.0 if pair == 0 else 0.72
        for side in (-1, 1):
            if rng.random() < 0.07:
                continue
            hinge = np.array(
                [
                    front - form.thorax_length * (0.35 + 0.3 * pair),
                    side * form.thorax_width * 0.3,
                    form.thorax_height * 0.4,
                ]
            )
            wings.append(
                Wing(
                    _outline(form, shrink, rng, hinge, side, spread * (1 - 0.25 * pair) + rng.normal(0, 9), fold),
                    rgb(form.wing_colour) * (1 - 0.08 * pair),
                    form.wing_opacity,
                    form.wing_pattern,
                )
            )
    return wings


def _outline(
    form: Form, shrink: float, rng: Rng, hinge: np.ndarray, side: int, spread_deg: float, fold: float
) -> np.ndarray:
    """A wing's outline: narrow at the hinge, broadest behind the middle, turned about its long axis by ``fold``."""
    along = np.array([0, 0.12, 0.3, 0.5, 0.7, 0.86, 0.97, 1.0])
    lead = np.array([0, 0.16, 0.3, 0.38, 0.38, 0.3, 0.14, 0.0])
    trail = np.array([0, 0.2, 0.46, 0.62, 0.6, 0.42, 0.18, 0.0])
    length, width = form.wing_length * shrink, form.wing_width * (1.0 if shrink == 1 else 0.9)
    across = np.concatenate([lead, -trail[-2:0:-1]]) * width
    reach = np.concatenate([along, along[-2:0:-1]]) * length
    if rng.random() < 0.25:  # torn
        reach = reach * rng.uniform(0.82, 1, len(reach))
    angle = np.pi - side * np.deg2rad(spread_deg)
    forward = np.array([np.cos(angle), np.sin(angle), rng.normal(0, 0.08)])
    sideways = np.array([np.sin(angle), -np.cos(angle), 0]) * -side
    turned = sideways * np.cos(fold) * -1 + np.array([0, 0, 1]) * np.sin(fold)
    return hinge + reach[:, None] * forward - across[:, None] * turned


def _picture(
    solids: list[Solid],
    wings: list[Wing],
    view: np.ndarray,
    form: Form,
    length_px: float,
    light: np.ndarray,
    rng: Rng,
) -> Sprite:
    """Body and wings as the camera sees them, wings before or behind the body."""
    flat = [(wing.outline @ view.T) * length_px for wing in wings]
    corners = [points[:, :2] for points in flat]
    if solids:
        detail = int(np.clip(4 * length_px, 60, 360))
        body = render(
            solids, view, scale_px=length_px, material=Material(light, sculpture=0.12), rng=rng, detail_px=detail
        )
        low = extent(solids, view)[:2] * length_px - MARGIN_PX
        corners += [low[None], low[None] + body.shape[1::-1]]
    layers = _Layers(np.concatenate(corners), low if solids else None)
    order = sorted(zip(wings, flat, strict=True), key=lambda pair: float(pair[1][:, 2].mean()))
    # the thorax, where the wings sit, is at depth 0
    for wing, points in (pair for pair in order if pair[1][:, 2].mean() < 0):
        layers.lay_wing(wing, points, length_px, rng)
    if solids:
        layers.lay_body(body, low, form.translucency)
    for wing, points in (pair for pair in order if pair[1][:, 2].mean() >= 0):
        layers.lay_wing(wing, points, length_px, rng)
    return layers.sprite()


class _Layers:
    """A sprite in the making: premultiplied RGBA, float32 in [0, 1], and what is its own."""

    def __init__(self, corners: np.ndarray, body: np.ndarray | None) -> None:
        low = corners.min(axis=0) - MARGIN_PX
        # whole pixels from the body's corner, so that the body need not be drawn anew
        self.origin = np.floor(low) if body is None else body - np.ceil(body - low)
        width, height = (np.ceil(corners.max(axis=0) - self.origin) + MARGIN_PX).astype(int)
        self.rgba = np.zeros((height, width, 4), np.float32)
        self.cover = np.zeros((height, width), bool)

    def lay_body(self, body: np.ndarray, low: np.ndarray, translucency: float) -> None:
        x, y = np.round(low - self.origin).astype(int)
        window = slice(y, y + body.shape[0]), slice(x, x + body.shape[1])
        self.cover[window] |= body[..., 3] > 127
        self._over(window, body.astype(np.float32) * np.float32((1 - translucency) / 255))

    def lay_wing(self, wing: Wing, points: np.ndarray, length_px: float, rng: Rng) -> None:
        layer, own = _wing_layer(wing, points[:, :2] - self.origin, self.cover.shape, length_px, rng)
        self._over((slice(None), slice(None)), layer)
        self.cover |= own

    def _over(self, window: tuple[slice, slice], layer: np.ndarray) -> None:
        self.rgba[window] *= 1 - layer[..., 3:]
        self.rgba[window] += layer

    def sprite(self) -> Sprite:
        return Sprite(np.clip(self.rgba * 255, 0, 255).astype(np.uint8), in_one_piece(self.cover))


def _wing_layer(
    wing: Wing, points: np.ndarray, shape: tuple[int, ...], length_px: float, rng: Rng
) -> tuple[np.ndarray, np.ndarray]:
    """A wing as premultiplied RGBA, float32, shape (height, width, 4) in [0, 1], and the pixels that are its own."""
    alpha, veins = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    fixed = np.round(points * 16 - 8).astype(np.int32)  # sixteenths of a pixel; OpenCV counts from pixels' centres
    cv2.fillPoly(alpha, [fixed], 255, cv2.LINE_AA, 4)
    if length_px > 12:
        for tip in fixed[2:-1]:
            cv2.line(veins, fixed[0].tolist(), tip.tolist(), 255, 1, cv2.LINE_AA, 4)
        cv2.polylines(veins, [fixed], True, 255, 1, cv2.LINE_AA, 4)
    hidden = (alpha / np.float32(255)) * np.float32(wing.opacity)
    vein = (veins.astype(np.float32) / 255) * (alpha > 0) * np.float32(0.45 if wing.opacity < 0.9 else 0.2)
    colour: np.ndarray = np.full((*shape, 3), wing.colour, np.float32)
    if wing.pattern > 0:
        y, x = np.indices(shape, np.float32)
        away = np.hypot(x - points[0, 0], y - points[0, 1]) / (0.01 + np.ptp(points, axis=0).max())
        bars = 0.5 + 0.5 * np.sin(away * np.float32(rng.uniform(9, 22)) + np.float32(rng.uniform(0, 6)))
        colour *= (1 - np.float32(0.6 * wing.pattern) * bars)[..., None]
    colour *= np.float32(rng.uniform(0.88, 1.08))
    opacity = np.maximum(hidden, vein)
    colour = colour * (1 - vein[..., None] * (0.9 if wing.opacity < 0.9 else 0.5))
    return np.dstack([np.clip(colour, 0, 1) * opacity[..., None], opacity]), alpha > 127


def in_one_piece(cover: np.ndarray) -> np.ndarray:
    """The largest connected part without its holes, as an outline drawn by hand holds it: bool, same shape."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(cover.astype(np.uint8), connectivity=4)
    if count < 2:
        return cover
    largest = (parts == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)
    rings, _ = cv2.findContours(largest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(largest, rings, -1, 1, cv2.FILLED).astype(bool)


# debris


def debris(light: np.ndarray, forms: list[Form], median_px: float, rng: Rng) -> tuple[Sprite, str]:
    """Something that is no insect or only a part of one, and what annotators call it: d, e or u.

    Args:
        light: unit vector towards the light in camera coordinates, shape (3,).
        forms: of the insects that it may come from.
        median_px: body length of most insects, pixels.
        rng: of everything.
    """
    kinds = list(_DEBRIS)
    share = np.array([_DEBRIS[kind][0] for kind in kinds])
    _, draw, category = _DEBRIS[kinds[rng.choice(len(kinds), p=share / share.sum())]]
    form = individual(forms[rng.integers(len(forms))], rng, pale=rng.random() < 0.3)
    size = median_px * float(np.clip(rng.lognormal(0, 0.6), 0.3, 5))
    view = view_matrix(heading_deg=rng.uniform(0, 360), elevation_deg=rng.uniform(20, 90))
    solids, wings = draw(form, rng)
    return _picture(solids, wings, view, form, size, light, rng), category


def _speck(form: Form, rng: Rng) -> tuple[list[Solid], list[Wing]]:
    colour = rng.uniform(0.1, 0.6) * np.array([1, rng.uniform(0.75, 1), rng.uniform(0.5, 0.9)])
    lumps: list[Solid] = [
        Ellipsoid(rng.normal(0, 0.08, 3), rng.uniform(0.05, 0.2, 3), colour, 0.1) for _ in range(rng.integers(1, 4))
    ]
    return lumps, []


def _lone_leg(form: Form, rng: Rng) -> tuple[list[Solid], list[Wing]]:
    thick = replace(form, leg_width=max(form.leg_width, 0.03), leg_length=max(form.leg_length, 0.6))
    return _leg(thick, np.zeros(3), 60, 1, rng), []


def _lone_wing(form: Form, rng: Rng) -> tuple[list[Solid], list[Wing]]:
    outline = _outline(form, 1.0, rng, np.zeros(3), 1, 60, rng.uniform(-0.3, 0.6))
    return [], [Wing(outline, rgb(form.wing_colour), form.wing_opacity, form.wing_pattern)]


def _lone_abdomen(form: Form, rng: Rng) -> tuple[list[Solid], list[Wing]]:
    return _abdomen(replace(form, waist=0.0, wings="none"), 0.1, rng), []


def _seed(form: Form, rng: Rng) -> tuple[list[Solid], list[Wing]]:
    colour = np.array([(0.16, 0.09, 0.05), (0.45, 0.27, 0.12), (0.62, 0.50, 0.30)][rng.integers(3)])
    body = Ellipsoid(np.zeros(3), np.array([0.4, rng.uniform(0.14, 0.3), 0.15]), colour, rng.uniform(0.1, 0.8))
    tail = Limb(np.array([-0.36, 0, 0]), np.array([-0.5, rng.uniform(-0.12, 0.12), 0]), 0.04, 0.012, colour, 0.2)
    return [body, tail], []


def _fibre(form: Form, rng: Rng) -> tuple[list[Solid], list[Wing]]:
    colour = np.array([(0.2, 0.2, 0.25), (0.5, 0.4, 0.3), (0.7, 0.7, 0.66)][rng.integers(3)])
    turns = np.cumsum(rng.normal(0, 0.45, 7))
    points = np.cumsum(0.3 * np.column_stack([np.cos(turns), np.sin(turns), 0 * turns]), axis=0)
    return [Limb(a, b, 0.022, 0.022, colour, 0.2) for a, b in pairwise(points)], []


#: Kind to how common it is, how it is drawn and what annotators call it.
_DEBRIS: dict[str, tuple[float, Callable[[Form, Rng], tuple[list[Solid], list[Wing]]], str]] = {
    "speck": (0.38, _speck, "d"),
    "leg": (0.2, _lone_leg, "d"),
    "wing": (0.12, _lone_wing, "d"),
    "fibre": (0.08, _fibre, "d"),
    "abdomen": (0.12, _lone_abdomen, "u"),
    "seed": (0.1, _seed, "e"),
}
