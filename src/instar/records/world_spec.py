"""The description of a drawn world: genera, species, looks, ranges, counts and shares of defects."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from instar.errors import InputError

VIEWS = ("dorsal", "profile", "head")


@dataclass
class Look:
    """How an insect looks. Lengths are in units of the mesosoma's length, colours are ``#rrggbb``."""

    head_length: float = 0.8
    head_width: float = 0.75
    head_lobes: float = 0.3  # 0 to 1; 1 is a heart-shaped head
    head_colour: str = "#5a2a18"
    eye: float = 0.1
    mandible: float = 0.25
    mesosoma_width: float = 0.5
    mesosoma_hump: float = 0.0  # height that the pronotum stands above the back
    waist: float = 0.8  # width of the mesosoma's rear over its front
    mesosoma_colour: str = "#5a2a18"
    spines: float = 0.0
    nodes: int = 1  # of the petiole; 0 for insects without one
    node_size: float = 0.2
    node_height: float = 0.4
    gaster_length: float = 1.2
    gaster_width: float = 0.8
    gaster_taper: float = 0.3  # 0 to 1; 1 is pointed like a heart
    gaster_raise_deg: float = 0.0
    gaster_colour: str = "#3a1a10"
    band_colour: str = "#3a1a10"  # of the rear edges of the gaster's plates
    band_width: float = 0.1  # share of a plate
    leg_length: float = 1.5
    leg_width: float = 0.1
    leg_colour: str = "#5a2a18"
    antenna_length: float = 1.6
    antenna_club: float = 0.0  # how much the last antennal segments are thickened
    hairs: int = 60
    hair_length: float = 0.12
    hair_colour: str = "#c8b090"
    gloss: float = 0.5  # 0 is dull, 1 polished
    sculpture: float = 0.05  # 0 is smooth; roughness of the surface
    polymorphism: float = 0.0  # how much the size of the head varies between workers


@dataclass
class Range:
    """A box in degrees, WGS 84."""

    west: float = MISSING
    south: float = MISSING
    east: float = MISSING
    north: float = MISSING


@dataclass
class Species:
    """One species; ``look`` overrides single fields of its genus's look."""

    name: str = MISSING
    photographs: int = MISSING  # field photographs, by true species
    specimens: int = 0
    ranges: list[Range] = MISSING
    look: dict[str, Any] = field(default_factory=dict)


@dataclass
class Genus:
    """One genus; ``look`` overrides single fields of the default look."""

    name: str = MISSING
    look: dict[str, Any] = field(default_factory=dict)
    species: list[Species] = MISSING


@dataclass
class Group:
    """A family and where it hangs in the tree."""

    order: str = MISSING
    family: str = MISSING
    genera: list[Genus] = MISSING


@dataclass
class Synonym:
    """An inactive name that some records still carry."""

    name: str = MISSING
    accepted: str = MISSING
    observations: int = MISSING
    specimens: int = MISSING


@dataclass
class Shares:
    """Shares in [0, 1], met exactly up to rounding; bursts on average."""

    genus_level: float = MISSING  # of ant observations
    wrong_labels: float = MISSING  # of ant observations
    wrong_within_genus: float = MISSING  # of the wrong labels
    missing_coordinates: float = MISSING  # of observations
    specimens_without_coordinates: float = MISSING
    bursts: float = MISSING  # of observations with several photographs
    tiny: float = MISSING  # of field scenes: ants too small to keep
    large: float = MISSING  # of field scenes: wider than a tile
    rotated: float = MISSING  # of JPEG files of ants: EXIF orientation other than 1
    annotated: float = MISSING  # of readable photographs of ants
    republished: float = MISSING  # of research-grade photographs: in GBIF, too


@dataclass
class Defects:
    """Numbers of photographs whose file is unusable."""

    truncated: int = MISSING
    corrupt_middle: int = MISSING
    corrupt_header: int = MISSING
    empty: int = MISSING
    html: int = MISSING
    missing: int = MISSING


@dataclass
class World:
    """A whole drawn world."""

    name: str = MISSING
    observers: int = MISSING
    photographs_per_observation: list[float] = MISSING  # weights of 1, 2, 3, …
    ants_per_photograph: list[float] = MISSING  # weights of 0, 1, 2, …
    licences: dict[str, float] = MISSING  # weights, as iNaturalist writes them
    extensions: dict[str, float] = MISSING  # weights
    orientations: list[int] = MISSING  # EXIF, dealt out in turn to the rotated files
    shares: Shares = MISSING
    defects: Defects = MISSING
    ants: Group = MISSING
    others: Group = MISSING
    synonym: Synonym = MISSING

    def species(self) -> list[tuple[Genus, Species]]:
        """Every ant species with its genus, in the order of the file."""
        return [(genus, species) for genus in self.ants.genera for species in genus.species]


def load_world(path: Path) -> World:
    """Read and check a world's description.

    Raises:
        InputError: if the file is missing, is no YAML, or has an unknown, missing or mistyped key.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(World), OmegaConf.load(path))
        world = cast(World, OmegaConf.to_object(merged))
        for group in (world.ants, world.others):
            for genus in group.genera:
                for species in genus.species:
                    look_of(genus, species)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the description of a drawn world") from None
    except (OmegaConfBaseException, YAMLError) as error:
        where = getattr(error, "full_key", None) or "not readable"
        raise InputError(f"{path}: {where}: {str(error).splitlines()[0]}; mend the world's description") from None
    return world


def look_of(genus: Genus, species: Species) -> Look:
    """A species' look: the defaults, overridden by its genus, overridden by itself."""
    return cast(Look, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Look), genus.look, species.look)))
