"""The two studies of individuals compose, and say what they must."""

import inspect
from collections.abc import Callable
from dataclasses import fields

import pytest
import yaml

from instar.dataset.individuals import individuals as identity_split
from instar.dataset.stage import dataset as species_split
from instar.errors import InputError
from instar.evaluation.individuals import individuals as identity_judged
from instar.evaluation.stage import evaluation as species_judged
from instar.params import Dataset, Evaluation
from instar.study import compose


def test_the_published_study() -> None:
    given = yaml.safe_load(compose("individuals", []))
    assert given["records"]["source"] == "sources/individuals"
    assert "unknown" in given["records"]["licences"] and "unknown" in given["dataset"]["licences"]
    assert (given["dataset"]["split_by"], given["detector"]["family"]) == ("published", "whole_image")
    assert (given["crops"]["margin_percent"], given["crops"]["max_px"]) == (0, 512)


def test_the_drawn_study() -> None:
    given = yaml.safe_load(compose("individuals_drawn", []))
    # a mirrored flank would be another individual's
    assert (given["labels"], given["classifier"]["flip"]) == (["identity"], "none")


@pytest.mark.parametrize("number", range(1, 9))
def test_the_published_configurations_within_the_study(number: int) -> None:
    given = yaml.safe_load(compose("individuals", [f"classifier=config{number}"]))
    assert (given["loss"], given["balance"], given["place"]) == ("flat", "none", "none")
    assert (given["classifier"]["keep"], given["classifier"]["of_each"]) == ("best_both", 0)


#: Rate, photographs in a step, warm-up, epochs; RandomResizedCrop, flip, rotation, AutoAugment, ColorJitter, erasing.
PLAIN, MANY = (1.0, "none", 0.0, False, 0.0, 0.0), (0.8, "horizontal", 15.0)
CONFIGS = {
    "config1": (2e-4, 32, 0.1, 10, *PLAIN),
    "config2": (8e-5, 16, 0.1, 10, *PLAIN),
    "config3": (8e-5, 16, 0.2, 10, *MANY, False, 0.2, 0.0),
    "config4": (5e-5, 16, 0.2, 10, *MANY, True, 0.2, 0.25),
    "config5": (5e-5, 8, 0.2, 10, *MANY, False, 0.2, 0.0),
    "config6": (5e-5, 16, 0.1, 10, *MANY, True, 0.0, 0.25),
    "config7": (5e-5, 16, 0.1, 30, *MANY, True, 0.0, 0.25),
    "config8": (5e-5, 16, 0.2, 10, *MANY, False, 0.2, 0.0),
}
OF_EACH = ("learning_rate", "batch", "warmup", "epochs", "crop_scale", "flip", "rotation_deg", "auto_augment")
OF_ALL = {"weight_decay": 0.01, "schedule": "linear", "keep": "best_both", "accumulate": 1, "early_stop": 0}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_numbers_of_the_published_configurations(name: str) -> None:
    given = yaml.safe_load(compose("individuals", [f"classifier={name}"]))["classifier"]
    assert tuple(given[key] for key in (*OF_EACH, "colour", "erasing")) == CONFIGS[name]
    assert {key: given[key] for key in OF_ALL} == OF_ALL


def test_it_begins_with_a_published_configuration() -> None:
    assert compose("individuals", []) == compose("individuals", ["classifier=config1"])
    compose("individuals", ["loss=triplet", "classifier.of_each=4"])


@pytest.mark.parametrize(
    ("section", "of_species", "of_individuals"),
    [(Dataset, species_split, identity_split), (Evaluation, species_judged, identity_judged)],
)
def test_what_means_nothing_here_says_so(
    section: type, of_species: Callable[..., None], of_individuals: Callable[..., None]
) -> None:
    one, other = (set(inspect.signature(of).parameters) for of in (of_species, of_individuals))
    told = {key.name for key in fields(section) if "not of individuals" in key.metadata["help"]}
    assert told == {key.name for key in fields(section)} & (one - other)


def test_a_detector_alone_needs_no_split() -> None:
    assert yaml.safe_load(compose("individuals", ["labels=[]"]))["labels"] == []
    with pytest.raises(InputError, match=r"split_by = published is not allowed with labels = \['species'\]"):
        compose("individuals", ["labels=[species]"])


def test_lightglue_needs_its_weights() -> None:
    with pytest.raises(
        InputError, match=r"local_weights = .*random.md is not allowed with evaluation.local = lightglue"
    ):
        compose("individuals", ["evaluation.local=lightglue"])
    compose("individuals", ["evaluation.local=lightglue", "evaluation.local_weights=models/lightglue"])
