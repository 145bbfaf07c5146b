"""The two studies of individuals compose, and say what they must."""

import yaml

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
