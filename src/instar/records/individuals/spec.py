"""The description of drawn individuals: species, how many of each, how often they were met, what is unknown."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import cast

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from instar.errors import InputError

#: What a pattern may be, and from which sides such an animal is seen.
PATTERNS: dict[str, tuple[str, ...]] = {
    "spots": ("left", "right"),
    "scales": ("left", "right", "top"),
    "blotches": ("top", "left", "right"),
}


@dataclass
class Species:
    """One species; its photographs are a data set."""

    name: str = MISSING
    dataset: str = MISSING
    pattern: str = MISSING  # one of PATTERNS
    orientations: list[str] = MISSING  # those of its pattern, or some of them
    individuals: int = MISSING  # that the database knows
    seen_once: int = MISSING  # of these: with one photograph in the database and no query
    new: int = MISSING  # individuals that only queries show
    encounters: list[int] = MISSING  # fewest and most days of an individual
    photographs: list[int] = MISSING  # fewest and most of an encounter
    queried: float = MISSING  # share of the individuals met twice or more of which the last encounter is queries


@dataclass
class World:
    """All drawn individuals."""

    name: str = MISSING
    width: int = MISSING  # pixels
    height: int = MISSING
    quality: int = MISSING  # of JPEG
    first_day: str = MISSING
    days: int = MISSING  # over which encounters are spread
    undated: float = MISSING  # share of the encounters without a date
    blur: float = MISSING  # most, standard deviation in thousandths of the width
    species: list[Species] = MISSING


def load_individuals(path: Path) -> World:
    """Read and check the description of drawn individuals.

    Raises:
        InputError: if the file is missing, is no YAML, has an unknown, missing or mistyped key, or numbers that do not
            fit each other.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(World), OmegaConf.load(path))
        world = cast(World, OmegaConf.to_object(merged))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the description of drawn individuals") from None
    except (OmegaConfBaseException, YAMLError) as error:
        where = getattr(error, "full_key", None) or "not readable"
        raise InputError(f"{path}: {where}: {str(error).splitlines()[0]}; mend the description") from None
    for fault in [*_faults(world), *(fault for one in world.species for fault in _species_faults(one))]:
        raise InputError(f"{path}: {fault}; mend the description")
    return world


def _faults(world: World) -> list[str]:
    names = [one.dataset for one in world.species]
    checks = [
        (not world.species, "species: none"),
        (len(set(names)) < len(names), f"species: two have the dataset of another, {', '.join(names)}"),
        (min(world.width, world.height) < 32, f"width, height: {world.width} × {world.height} is below 32 pixels"),
        (not 1 <= world.quality <= 100, f"quality: {world.quality}"),
        (not _is_day(world.first_day), f"first_day: {world.first_day!r} is no day as 2019-07-31"),
        (world.days < 1, f"days: {world.days}"),
        (not 0 <= world.undated <= 1, f"undated: {world.undated} is no share"),
        (world.blur < 0, f"blur: {world.blur}"),
    ]
    return [text for bad, text in checks if bad]


def _species_faults(one: Species) -> list[str]:
    known = PATTERNS.get(one.pattern, ())
    ranges = {"encounters": one.encounters, "photographs": one.photographs}
    checks = [
        (not known, f"{one.name}: pattern {one.pattern!r} is none of {', '.join(PATTERNS)}"),
        (
            not one.orientations or not set(one.orientations) <= set(known),
            f"{one.name}: orientations {one.orientations} are none of {', '.join(known)}",
        ),
        (not 0 <= one.seen_once <= one.individuals, f"{one.name}: seen_once {one.seen_once} of {one.individuals}"),
        (one.new < 0, f"{one.name}: new {one.new}"),
        (not 0 <= one.queried <= 1, f"{one.name}: queried {one.queried} is no share"),
        *(
            (
                len(pair) != 2 or not 1 <= pair[0] <= pair[-1],
                f"{one.name}: {name} {pair} is not the fewest and the most",
            )
            for name, pair in ranges.items()
        ),
    ]
    return [text for bad, text in checks if bad]


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
