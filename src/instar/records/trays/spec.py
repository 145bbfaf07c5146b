"""The description of drawn trays: how many photographs and insects, of which taxa, what their annotators get wrong."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from instar.errors import InputError

#: Kinds of wings: one pair, two clear pairs, two with scales, cases over the rear, cases with clear ends.
WINGS = ("none", "fly", "clear", "scaled", "elytra", "half")

#: What lies on the trays of a description without orders.
TAXA = Path(__file__).with_name("taxa.yaml")


@dataclass
class Form:
    """How an insect is built. Lengths are in units of the body's length, colours are ``#rrggbb``."""

    head_length: float = 0.15
    head_width: float = 0.18
    thorax_length: float = 0.3
    thorax_width: float = 0.24
    thorax_height: float = 0.24
    waist: float = 0.0  # length of a stalk between thorax and abdomen
    abdomen_width: float = 0.24
    abdomen_height: float = 0.2
    bend_deg: float = 8.0  # how far the abdomen's rear hangs down, give or take as much
    colour: str = "#4a3626"  # of the thorax
    head_colour: str = "#3a2a20"
    abdomen_colour: str = "#5a4632"
    band_colour: str = "#2a2018"
    bands: int = 0  # across the abdomen
    eye: float = 0.06  # radius
    eye_colour: str = "#2a0f0c"
    legs: int = 3  # pairs
    leg_length: float = 0.6
    leg_width: float = 0.03
    leg_colour: str = "#5a4632"
    antenna_length: float = 0.3
    wings: str = "none"  # one of WINGS
    wing_length: float = 0.8
    wing_width: float = 0.28
    wing_spread_deg: float = 35.0  # from straight back
    wing_opacity: float = 0.2
    wing_colour: str = "#cfc9b8"
    wing_pattern: float = 0.0  # 0 is plain, 1 strongly barred
    gloss: float = 0.4
    translucency: float = 0.0  # 0 is solid; how much of the tray shows through the body
    variation: float = 0.12  # of lightness between individuals


@dataclass
class Family:
    """One family; ``form`` overrides single fields of its order's form, ``genera`` are invented."""

    name: str = MISSING
    weight: float = MISSING  # how common it is
    size: float = 1.0  # body length over that of the order
    subfamily: str = ""
    tribe: str = ""
    micro: bool = False  # one of the microlepidoptera
    genera: dict[str, list[str]] = MISSING  # genus to epithets
    form: dict[str, Any] = field(default_factory=dict)


@dataclass
class Order:
    """One order. ``between`` are ranks that only the second checklist has: suborder, infraorder, superfamily."""

    name: str = MISSING
    within: str = "Insecta"  # class
    phylum: str = "Arthropoda"
    size: float = 1.0  # body length over the median of all
    form: dict[str, Any] = field(default_factory=dict)
    between: dict[str, dict[str, str]] = field(default_factory=dict)  # family to rank to name
    families: list[Family] = MISSING


@dataclass
class Lengths:
    """Body lengths in pixels: a lognormal distribution, cut off."""

    median: float = MISSING
    spread: float = MISSING  # standard deviation of the natural logarithm
    least: float = MISSING
    most: float = MISSING


@dataclass
class Shares:
    """Shares in [0, 1]."""

    clustered: float = MISSING  # of insects: in crowded clusters
    pale: float = MISSING  # of insects: bleached, little contrast
    debris: float = MISSING  # pieces of debris per insect
    lost: float = MISSING  # of insects: not found again when the sample was sorted by hand
    hand_counted: float = MISSING  # of photographs
    debris_annotated: float = MISSING  # of pieces of debris
    taxa_labelled: float = MISSING  # of annotated insects: with an entry in step 2
    other_outline: float = MISSING  # of these: outlined anew, with an id of its own
    wrong_labels: float = MISSING  # of low-confidence labels
    self_crossing: float = MISSING  # of annotations
    two_parts: float = MISSING  # of annotations: two rings for one insect, besides those that others hide in part
    two_points: float = MISSING  # stray lines per annotation


@dataclass
class Parts:
    """Photographs in the given partition; the rest is for training."""

    validation: int = MISSING
    test: int = MISSING


@dataclass
class Trays:
    """A whole set of drawn trays."""

    name: str = MISSING
    photographs: int = MISSING
    doubles: int = MISSING  # samples with two photographs
    unannotated: int = MISSING  # photographs that no annotator has seen
    width: int = MISSING  # pixels
    height: int = MISSING
    insects: list[int] = MISSING  # fewest and most on a photograph
    length_px: Lengths = MISSING
    sub_images: int = MISSING  # along each side
    sub_image_overlap: float = MISSING  # share of a sub-image's side that it has in common with the next one
    quality: int = MISSING  # of JPEG
    shares: Shares = MISSING
    given: Parts = MISSING
    orders: list[Order] = field(default_factory=list)  # if empty, those of taxa.yaml

    def taxa(self) -> list[tuple[Order, Family]]:
        """Every family with its order, in the order of the file."""
        return [(order, family) for order in self.orders for family in order.families]


def load_trays(path: Path) -> Trays:
    """Read and check the description of drawn trays.

    Raises:
        InputError: if the file is missing, is no YAML, has an unknown, missing or mistyped key, or numbers that do not
            fit each other.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Trays), OmegaConf.load(path))
        if not merged.orders:
            merged = OmegaConf.merge(merged, OmegaConf.load(TAXA))
        trays = cast(Trays, OmegaConf.to_object(merged))
        forms = [form_of(order, family) for order, family in trays.taxa()]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the description of drawn trays") from None
    except (OmegaConfBaseException, YAMLError) as error:
        where = getattr(error, "full_key", None) or "not readable"
        raise InputError(f"{path}: {where}: {str(error).splitlines()[0]}; mend the trays' description") from None
    for fault in _faults(trays, forms):
        raise InputError(f"{path}: {fault}; mend the trays' description")
    return trays


def _faults(trays: Trays, forms: list[Form]) -> list[str]:
    """What does not fit in a description that has all its keys."""
    counts, lengths = trays.insects, trays.length_px
    wrong = [form.wings for form in forms if form.wings not in WINGS]
    checks = [
        (2 * trays.doubles > trays.photographs, f"doubles: {trays.doubles} samples of two among {trays.photographs}"),
        (len(counts) != 2 or not 0 <= counts[0] <= counts[-1], f"insects: {counts} is not the fewest and the most"),
        (not 0 < lengths.least <= lengths.most, f"length_px: {lengths.least} to {lengths.most}"),
        (trays.sub_images < 1, f"sub_images: {trays.sub_images}"),
        (not 0 <= trays.sub_image_overlap < 1, f"sub_image_overlap: {trays.sub_image_overlap} is not below 1"),
        (not forms, "orders: no family"),
        (bool(wrong), f"wings: {wrong[:1]} is none of {WINGS}"),
        (
            trays.given.validation + trays.given.test + trays.unannotated > trays.photographs,
            f"given: {trays.given.validation} + {trays.given.test} of {trays.photographs} photographs",
        ),
    ]
    return [text for bad, text in checks if bad]


def form_of(order: Order, family: Family) -> Form:
    """A family's form: the defaults, overridden by its order, overridden by itself."""
    return cast(Form, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Form), order.form, family.form)))
