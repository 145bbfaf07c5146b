"""The anatomy of a drawn ant: a species' look and a pose to solids, and solids to a picture of one ant.

World units are mesosoma lengths; the mesosoma's middle is the origin, x points forward, y left and z up.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from instar.records.solids import Bands, Ellipsoid, Fur, Limb, Material, Solid, extent, render, view_matrix
from instar.records.world_spec import Look

#: From shares of the head's half length, width and width to a point in world units.
Place = Callable[[float, float, float], np.ndarray]

#: Of leg pairs, front to rear: where they start along x, and their direction in degrees from straight ahead.
LEG_STARTS = (0.26, 0.02, -0.2)
LEG_DIRECTIONS_DEG = (48.0, 92.0, 142.0)
LEG_LENGTHS = (0.85, 0.9, 1.15)


@dataclass(frozen=True)
class Pose:
    """How one ant stands; angles in degrees."""

    head_yaw_deg: float
    head_pitch_deg: float
    gaster_yaw_deg: float
    gaster_raise_deg: float
    antenna_spread_deg: tuple[float, float]
    leg_swing_deg: tuple[float, ...]  # left and right of each pair, front to rear


def random_pose(look: Look, rng: np.random.Generator, *, liveliness: float = 1.0) -> Pose:
    """A pose typical of the look; ``liveliness`` 0 is a specimen mounted symmetrically."""
    return Pose(
        head_yaw_deg=rng.normal(0, 8 * liveliness),
        head_pitch_deg=rng.normal(15, 4 * liveliness),
        gaster_yaw_deg=rng.normal(0, 7 * liveliness),
        gaster_raise_deg=look.gaster_raise_deg + rng.normal(0, 5 * liveliness),
        antenna_spread_deg=(rng.normal(42, 4 + 8 * liveliness), rng.normal(42, 4 + 8 * liveliness)),
        leg_swing_deg=tuple(rng.normal(0, 3 + 9 * liveliness, size=6)),
    )


def individual(look: Look, rng: np.random.Generator) -> Look:
    """One individual's look: its species' with proportions and colours slightly off."""
    lengths = ("head_length", "head_width", "mesosoma_width", "gaster_length", "gaster_width", "leg_length")
    changed: dict[str, Any] = {name: getattr(look, name) * rng.normal(1, 0.03) for name in lengths}
    caste = 1 + look.polymorphism * max(0.0, rng.normal(0, 0.6))
    changed["head_length"] *= caste
    changed["head_width"] *= caste
    colours = ("head_colour", "mesosoma_colour", "gaster_colour", "leg_colour", "band_colour")
    light, tint = rng.normal(1, 0.07), rng.normal(1, 0.02, 3)
    changed |= {name: _hex(np.clip(rgb(getattr(look, name)) * light * tint, 0, 1)) for name in colours}
    return replace(look, **changed)


def rgb(colour: str) -> np.ndarray:
    """``#rrggbb`` as float64, shape (3,), in [0, 1]."""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def _hex(colour: np.ndarray) -> str:
    return "#" + "".join(f"{round(channel * 255):02x}" for channel in colour)


def ant_picture(
    look: Look,
    pose: Pose,
    *,
    heading_deg: float,
    elevation_deg: float,
    long_side_px: float,
    light: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """One ant on nothing.

    Args:
        look, pose: of the individual.
        heading_deg: where the head points, counter-clockwise from the picture's right.
        elevation_deg: of the camera; 90 from above, 0 from the side.
        long_side_px: longer side of the ant's box with legs and antennae, pixels.
        light: unit vector towards the light in camera coordinates, shape (3,).
        rng: places hairs and roughness.

    Returns:
        uint8, shape (height, width, 4), RGB premultiplied by alpha.
    """
    solids = ant_solids(look, pose)
    view = view_matrix(heading_deg=heading_deg, elevation_deg=elevation_deg)
    bounds = extent(solids, view)
    scale = long_side_px / max(bounds[2] - bounds[0], bounds[3] - bounds[1])
    # Thinner than a pixel, a leg would fall below half alpha and out of the mask.
    thick = replace(look, leg_width=max(look.leg_width, 1.7 / scale))
    fur = Fur(look.hairs, look.hair_length, rgb(look.hair_colour)) if look.hairs else None
    material = Material(light, look.sculpture, fur)
    return render(ant_solids(thick, pose), view, scale_px=scale, material=material, rng=rng)


def ant_solids(look: Look, pose: Pose) -> list[Solid]:
    """All parts of an ant."""
    return [
        *_mesosoma(look),
        *_head(look, pose),
        *_gaster(look, pose),
        *(solid for side in (0, 1) for pair in range(3) for solid in _leg(look, pose, pair, side)),
    ]


def _turn(*, yaw_deg: float = 0, pitch_deg: float = 0) -> np.ndarray:
    """Rotation, shape (3, 3): pitch lowers the x axis below the ground plane, yaw then turns it left."""
    yaw, pitch = np.deg2rad(yaw_deg), np.deg2rad(pitch_deg)
    about_y = np.array([[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]])
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    return about_z @ about_y


def _mesosoma(look: Look) -> list[Solid]:
    colour, half = rgb(look.mesosoma_colour), look.mesosoma_width / 2
    hump = look.mesosoma_hump

    def part(x: float, z: float, *radii: float) -> Ellipsoid:
        return Ellipsoid(np.array([x, 0, z]), np.array(radii), colour, look.gloss, furry=True)

    solids: list[Solid] = [
        part(0.24, hump / 2, 0.29, half, half * 0.9 + hump / 2),
        part(-0.02, hump / 4, 0.26, half * (0.55 + 0.35 * look.waist), half * 0.8 + hump / 4),
        part(-0.28, -0.02, 0.26, half * look.waist, half * 0.85),
    ]
    if look.spines:
        for side in (-1, 1):
            root = np.array([-0.36, side * half * 0.6, half * 0.5])
            tip = root + look.spines * np.array([-0.75, side * 0.45, 0.6])
            solids.append(Limb(root, tip, 0.055, 0.012, colour * 0.9, look.gloss))
    return solids


def _head(look: Look, pose: Pose) -> list[Solid]:
    colour, gloss = rgb(look.head_colour), look.gloss
    turn = _turn(yaw_deg=pose.head_yaw_deg, pitch_deg=pose.head_pitch_deg)
    neck = np.array([0.5, 0, 0.03])
    length, half = look.head_length / 2, look.head_width / 2

    def at(x: float, y: float, z: float) -> np.ndarray:
        return neck + turn @ np.array([length + x * length, y * half, z * half])

    def part(point: np.ndarray, *radii: float) -> Ellipsoid:
        return Ellipsoid(point, np.array(radii), colour, gloss, turn, furry=True)

    solids: list[Solid] = [
        Limb(np.array([0.4, 0, 0.0]), at(-0.7, 0, 0), 0.12, 0.12, colour, gloss),
        part(at(0, 0, 0), length, half * (1 - 0.12 * look.head_lobes), half * 0.62),
        part(at(0.55, 0, -0.05), length * 0.5, half * 0.68, half * 0.45),
    ]
    for side in (-1, 1):
        if look.head_lobes:
            lobe = 0.35 + 0.25 * look.head_lobes
            solids.append(part(at(-0.5, side * 0.5, 0.0), length * lobe * 1.25, half * lobe, half * 0.55))
        eye_radii = np.array([look.eye, look.eye * 0.7, look.eye * 0.85])
        eye = Ellipsoid(at(0.12, side * 0.82, 0.25), eye_radii, np.array([0.03, 0.03, 0.04]), 1.0, turn)
        solids += [eye, *_mandible(look, at, side), *_antenna(look, pose, at, turn, side)]
    return solids


def _mandible(look: Look, at: Place, side: int) -> list[Solid]:
    colour = rgb(look.head_colour) * 0.8
    root, reach = at(0.85, side * 0.5, -0.1), look.mandible / (look.head_length / 2)
    bend, tip = at(0.95 + 0.6 * reach, side * 0.55, -0.15), at(0.95 + reach, side * 0.06, -0.2)
    thick = 0.07 + 0.06 * look.mandible
    return [Limb(root, bend, thick, thick * 0.8, colour, look.gloss), Limb(bend, tip, thick * 0.8, 0.02, colour, 0.6)]


def _antenna(look: Look, pose: Pose, at: Place, turn: np.ndarray, side: int) -> list[Solid]:
    colour, width = rgb(look.leg_colour), look.leg_width * 0.42
    spread = side * pose.antenna_spread_deg[(side + 1) // 2]
    scape, whip = look.antenna_length * 0.45, look.antenna_length * 0.55 / 3
    root = at(0.6, side * 0.35, 0.45)
    elbow = root + scape * (turn @ _direction(spread, 22))
    solids: list[Solid] = [Limb(root, elbow, width * 0.8, width, colour, look.gloss)]
    for joint, (bend, lift) in enumerate(((0.55, 0), (0.3, -12), (0.1, -20))):
        end = elbow + whip * (turn @ _direction(spread * bend - side * 12, lift))
        thick = [width * (1 + look.antenna_club * max(0, joint + step - 1) / 2) for step in (0, 1)]
        solids.append(Limb(elbow, end, thick[0], thick[1], colour, look.gloss * 0.6))
        elbow = end
    return solids


def _direction(yaw_deg: float, lift_deg: float) -> np.ndarray:
    """Unit vector that points ``yaw_deg`` left of ahead and ``lift_deg`` above the ground."""
    yaw, lift = np.deg2rad(yaw_deg), np.deg2rad(lift_deg)
    return np.array([np.cos(yaw) * np.cos(lift), np.sin(yaw) * np.cos(lift), np.sin(lift)])


def _gaster(look: Look, pose: Pose) -> list[Solid]:
    colour = rgb(look.gaster_colour)
    joint = np.array([-0.52, 0, -0.05])
    turn = _turn(yaw_deg=pose.gaster_yaw_deg, pitch_deg=pose.gaster_raise_deg)
    waist = look.nodes * look.node_size
    start = joint + turn @ np.array([-waist - 0.04 * (look.nodes > 0), 0, 0])
    length, half = look.gaster_length, look.gaster_width / 2

    def plate(x: float, *radii: float) -> Ellipsoid:
        centre = start + turn @ np.array([-x, 0, 0])
        reach = (x - radii[0], x + radii[0])
        bands = Bands(rgb(look.band_colour), look.band_width, 4 * reach[0] / length, 4 * reach[1] / length)
        return Ellipsoid(centre, np.array(radii), colour, look.gloss, turn, bands, furry=True)

    taper = look.gaster_taper
    solids: list[Solid] = list(_petiole(look, joint, turn))
    solids.append(plate(length * (0.5 - 0.12 * taper), length * (0.5 - 0.12 * taper), half, half * 0.85))
    for step in (0.25, 0.5, 0.75, 1.0):
        wide = half * (1 - (0.5 + 0.35 * taper) * step ** (2.2 - 0.6 * taper))
        solids.append(plate(length * (0.5 + 0.36 * step), length * 0.24 * (1.15 - 0.55 * step), wide, wide * 0.85))
    return solids


def _petiole(look: Look, joint: np.ndarray, turn: np.ndarray) -> list[Solid]:
    colour = rgb(look.mesosoma_colour)
    end = joint + turn @ np.array([-look.nodes * look.node_size - 0.1, 0, 0])
    solids: list[Solid] = [Limb(joint + np.array([0.1, 0, 0]), end, 0.08, 0.07, colour, look.gloss)]
    for node in range(look.nodes):
        centre = joint + turn @ np.array([-(node + 0.5) * look.node_size, 0, look.node_height * 0.2])
        radii = np.array([look.node_size * 0.45, 0.13 + 0.03 * node, look.node_height * 0.5])
        solids.append(Ellipsoid(centre, radii, colour, look.gloss, turn, furry=True))
    return solids


def _leg(look: Look, pose: Pose, pair: int, side: int) -> list[Solid]:
    sign = 1 - 2 * side
    direction = sign * (LEG_DIRECTIONS_DEG[pair] + pose.leg_swing_deg[2 * pair + side])
    length = look.leg_length * LEG_LENGTHS[pair]
    colour, width = rgb(look.leg_colour), look.leg_width / 2
    hip = np.array([LEG_STARTS[pair], sign * look.mesosoma_width * 0.3, -look.mesosoma_width * 0.3])
    coxa = hip + 0.14 * _direction(direction, -35)
    knee = coxa + 0.42 * length * _direction(direction, 38)
    ankle = knee + 0.38 * length * _direction(direction + sign * 8 * (pair - 0.7), -58)
    toe = ankle + 0.3 * length * _direction(direction + sign * 16 * (pair - 0.7), -14)
    return [
        Limb(hip, coxa, width * 1.7, width * 1.2, colour, look.gloss),
        Limb(coxa, knee, width * 1.3, width * 0.9, colour, look.gloss),
        Limb(knee, ankle, width * 0.95, width * 0.75, colour, look.gloss),
        Limb(ankle, toe, width * 0.6, width * 0.5, colour * 0.9, look.gloss * 0.5),
    ]
