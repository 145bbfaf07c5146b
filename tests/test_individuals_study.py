"""The two studies of individuals compose, and say what they must."""

import pytest
import yaml

from instar.errors import InputError
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


def test_it_begins_with_a_published_configuration() -> None:
    assert compose("individuals", []) == compose("individuals", ["classifier=config1"])
    compose("individuals", ["loss=triplet", "classifier.of_each=4"])


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
