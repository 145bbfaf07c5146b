"""Licences of photographs, under one set of short names whatever the source calls them."""

import re

#: From free to closed. "unknown" is a text that no rule below reads, or none.
LICENCES = (
    "cc0",
    "public-domain",
    "cc-by",
    "cc-by-sa",
    "cc-by-nd",
    "cc-by-nc",
    "cc-by-nc-sa",
    "cc-by-nc-nd",
    "all-rights-reserved",
    "unknown",
)

_URL = re.compile(r"creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)")
#: A version, and what Creative Commons writes behind it; the two letters are a country's.
_VERSION = r"(?:[-_ ]\d[\d._]*(?:[-_ ](?:international|unported|generic|licen[cs]e|deed|(?!nc|nd|sa)[a-z]{2}))*)?"
_CODE = re.compile(rf"cc[-_ ]?(by(?:[-_ ](?:nc|sa|nd))*){_VERSION}")
_ZERO = re.compile(r"cc0[-_ ]?(?:1[._]0)?(?:[-_ ]?(?:universal|legalcode).*)?")
_CLOSED = {"c", "©", "copyright", "all rights reserved", "all-rights-reserved"}
_FREE = {"cc0": "cc0", "zero": "cc0", "cc0_1_0": "cc0", "cc-0": "cc0", "pd": "public-domain", "mark": "public-domain"}


def normalise(text: str | None) -> str:
    """The short name of a licence given as iNaturalist's code, GBIF's enumeration, a Creative Commons URL or words.

    A text that names two licences, or one and something else, is unknown.

    >>> normalise("http://creativecommons.org/licenses/by-nc/4.0/legalcode"), normalise("CC_BY_4_0"), normalise("C")
    ('cc-by-nc', 'cc-by', 'all-rights-reserved')
    """
    given = (text or "").strip().lower()
    urls = set(_URL.findall(given))
    if len(urls) > 1:
        return "unknown"
    code = next(iter(urls), given)
    if code in _FREE or _ZERO.fullmatch(code):
        return _FREE.get(code, "cc0")
    if code in _CLOSED or code.startswith("© all rights reserved"):
        return "all-rights-reserved"
    match = _CODE.fullmatch(f"cc-{code}" if urls else code)
    name = f"cc-{re.sub('[_ ]', '-', match.group(1))}" if match else "unknown"
    return name if name in LICENCES else "unknown"
