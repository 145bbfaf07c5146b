"""Where a photograph was taken, as a network takes it."""

import math

import numpy as np
import torch

#: Fourier features at this many scales; the finest wave is about 400 km long, coarse against the noise of training.
OCTAVES = 6
#: Width of the place's hidden layers.
WIDTH = 128
#: South, west, north and east side in degrees; west is above east where it reaches across 180°.
Box = tuple[float, float, float, float]


def jitter(rng: np.random.Generator, place: np.ndarray, *, noise_deg: float, drop: float) -> np.ndarray:
    """A place as training shows it: moved, or taken away.

    Args:
        rng: draws three numbers whatever becomes of them.
        place: float32, shape (2,), latitude and longitude in degrees; NaN where unknown.
        noise_deg: both are moved by up to so much, evenly drawn; longitude wraps at 180°, latitude ends at the pole.
        drop: probability of an unknown place.

    Returns:
        float32, shape (2,).
    """
    north, east = rng.uniform(-noise_deg, noise_deg, 2)
    if rng.random() < drop:
        return np.full(2, np.nan, dtype=np.float32)
    latitude = np.clip(place[0] + north, -90.0, 90.0)
    longitude = (place[1] + east + 180.0) % 360.0 - 180.0
    return np.array([latitude, longitude], dtype=np.float32)


def bounding_box(places: np.ndarray) -> Box | None:
    """The smallest box that holds all known places; None where none is known.

    Args:
        places: float32, shape (n, 2), latitude and longitude in degrees; NaN where unknown.
    """
    known = places[~np.isnan(places).any(axis=1)].astype(np.float64)
    if not len(known):
        return None
    east = np.unique(known[:, 1])
    widest = int(np.argmax(np.diff(east, append=east[0] + 360)))  # the box begins where the widest gap ends
    sides = known[:, 0].min(), east[(widest + 1) % len(east)], known[:, 0].max(), east[widest]
    south, west, north, east_side = (round(float(side), 4) for side in sides)
    return south, west, north, east_side


def degrees_outside(place: tuple[float, float], box: Box) -> float:
    """By how many degrees of latitude or longitude, whichever are more, a place lies outside a box; 0 inside it."""
    (latitude, longitude), (south, west, north, east) = place, box
    outside = 0.0 if (longitude - west) % 360 <= (east - west) % 360 else 360.0
    by_longitude = min((west - longitude) % 360, (longitude - east) % 360, outside)
    return max(south - latitude, latitude - north, by_longitude, 0.0)


def fourier_features(places: torch.Tensor) -> torch.Tensor:
    """Waves over the sphere (Tancik et al. 2020), of the point on it rather than of its angles.

    A point is the same whichever way its longitude is written, and at a pole it does not depend on longitude, so
    neither do its features (Mac Aodha et al. 2019 wrap the longitude only).

    Args:
        places: shape (n, 2), latitude and longitude in degrees.

    Returns:
        float32, shape (n, 3 + 6 * OCTAVES), in [-1, 1].
    """
    latitude, longitude = torch.deg2rad(places.float()).unbind(1)
    around = torch.cos(latitude)
    point = torch.stack([around * torch.cos(longitude), around * torch.sin(longitude), torch.sin(latitude)], dim=1)
    scales = math.pi * 2.0 ** torch.arange(OCTAVES, device=places.device)
    waves = (point[:, :, None] * scales).flatten(1)
    return torch.cat([point, waves.sin(), waves.cos()], dim=1)


class PlaceEncoder(torch.nn.Module):
    """A vector for each place, and a learnt one for the unknown place."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(3 + 6 * OCTAVES, WIDTH), torch.nn.GELU(), torch.nn.Linear(WIDTH, WIDTH), torch.nn.GELU()
        )
        self.unknown = torch.nn.Parameter(torch.zeros(WIDTH))

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        """float32 (n, WIDTH) of places (n, 2); one with a NaN is unknown."""
        known = ~places.isnan().any(1, keepdim=True)
        # the unknown ones go through as 0°, 0°: a NaN would reach the gradient even where it is not chosen
        encoded = self.layers(fourier_features(places.nan_to_num(0.0)))
        return torch.where(known, encoded, self.unknown.to(encoded.dtype))
