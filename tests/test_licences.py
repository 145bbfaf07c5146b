"""Licences as the sources write them."""

import pytest

from instar.licences import LICENCES, normalise


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (None, "unknown"),
        ("", "unknown"),
        ("free to a good home", "unknown"),
        ("CC0", "cc0"),
        ("CC0_1_0", "cc0"),
        ("PD", "public-domain"),
        ("C", "all-rights-reserved"),
        ("© All rights reserved", "all-rights-reserved"),
        ("CC-BY", "cc-by"),
        ("CC-BY-NC-SA", "cc-by-nc-sa"),
        ("CC_BY_NC_4_0", "cc-by-nc"),
        ("CC BY-NC 4.0", "cc-by-nc"),
        ("cc-by-nd", "cc-by-nd"),
        ("http://creativecommons.org/publicdomain/zero/1.0/legalcode", "cc0"),
        ("http://creativecommons.org/publicdomain/mark/1.0/", "public-domain"),
        ("https://creativecommons.org/licenses/by-nc/4.0/", "cc-by-nc"),
        ("http://creativecommons.org/licenses/by-nc-nd/4.0/legalcode", "cc-by-nc-nd"),
        ("CC BY 4.0 International License", "cc-by"),
        ("cc-by-sa-3.0-de", "cc-by-sa"),
        ("CC0 1.0 Universal", "cc0"),
        ("CC BY 4.0 NC", "unknown"),
        ("CC BY 4.0; CC BY-NC 4.0", "unknown"),
        ("CC-BY 4.0 but not for AI", "unknown"),
        ("CC0 except the logo", "unknown"),
        ("http://creativecommons.org/licenses/by/4.0/, http://creativecommons.org/licenses/by-nc/4.0/", "unknown"),
        ("http://creativecommons.org/licenses/by/4.0/ https://creativecommons.org/licenses/by/4.0/", "cc-by"),
    ],
)
def test_licences_have_one_name(text: str | None, name: str) -> None:
    assert normalise(text) == name
    assert name in LICENCES
