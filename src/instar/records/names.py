"""Names as people write them, and the accepted taxon of each: by GBIF's backbone where its answers are at hand.

``instar source backbone`` asks GBIF's species match (https://techdocs.gbif.org/en/openapi/v1/species) for every name of
a study and keeps the answers in ``backbone.jsonl``. Without that file only the rules of ``parse`` hold: authors and
infraspecific epithets go, and open nomenclature (sp., cf., aff., a hybrid, a morphospecies' code) stays at genus.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from instar.errors import InputError
from instar.records.taxonomy import Lineage, lineage

FILE = "backbone.jsonl"

NOT_PLACED = "name not placed"
ABOVE_GENUS = "above genus"

#: Ranks that an answer of the backbone names, from the top.
RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")

_GENUS = re.compile(r"[^\W\d_a-z][^\W\d_A-Z]+(?:-[^\W\d_A-Z]+)?")
_EPITHET = re.compile(r"[^\W\d_A-Z]{2,}(?:-[^\W\d_A-Z]+)*|[a-z]-[^\W\d_A-Z]+")
_SUBGENUS = re.compile(r"\([^\W\d_]+\)")
#: Words after which, or instead of which, no species is said.
_OPEN = {"sp", "spp", "spec", "species", "indet", "cf", "cfr", "conf", "aff", "nr", "near", "prope", "gr", "grp"}
_OPEN |= {"group", "complex", "cplx", "agg", "aggr", "sl", "incertae", "undet", "undetermined", "unidentified", "morph"}
_OPEN |= {"morphospecies", "nsp", "novsp", "spnov", "gen", "stetit"}
#: Words that are about the name, or parts of an author's, where an epithet could stand.
_NOT_EPITHETS = {"auct", "auctt", "de", "del", "della", "der", "des", "di", "du", "et", "ex", "in", "la", "le", "nec"}
_NOT_EPITHETS |= {"non", "sensu", "van", "von", "subsp", "ssp", "var", "nom", "emend", "and", "da", "dos"}
_NO_NAMES = {"unknown", "unidentified", "undetermined", "other", "others", "none", "background", "na", "n/a", "indet"}
_NO_NAMES |= {"null", "nan", "no", "undet", "misc", "miscellaneous", "unclassified", "unnamed", "incertae"}
_HYBRID = re.compile(r"\s[xX]\s|^x(?=\s|[A-Z])|×")
_HIGHER = re.compile(r"(?:idae|inae|oidea)$")


class Parsed(NamedTuple):
    """What a name says: nothing, a genus, or a species; ``is_open`` where it names less than it seems to."""

    species: str | None
    genus: str | None
    above: str | None  # a family or a higher taxon, by its ending
    is_open: bool


@lru_cache(maxsize=1 << 16)
def parse(text: str | None) -> Parsed:
    """Read a scientific name, with or without authors.

    >>> parse("Lasius niger (Linnaeus, 1758)").species, parse("Lasius cf. niger"), parse("Formicidae").above
    ('Lasius niger', Parsed(species=None, genus='Lasius', above=None, is_open=True), 'Formicidae')
    """
    name = cleaned(text)
    words = name.split()
    nothing = Parsed(None, None, None, False)
    if not words or words[0].lower().strip(".") in _NO_NAMES:
        return nothing
    hybrid = bool(_HYBRID.search(name))
    words = [word for word in (re.sub("^[x×](?=[A-Z])|×", "", word) for word in words) if word not in ("", "x", "X")]
    unsure = bool(words) and (_is_open(words[0]) or words[0] == "?")  # "cf. Lasius niger"
    words = words[1:] if unsure else words
    if not words or not _GENUS.fullmatch(words[0].strip(".?,")):
        return nothing
    genus, rest = words[0].strip(".?,"), words[1:]
    if hybrid:
        return _hybrid(genus, rest)
    if rest and _SUBGENUS.fullmatch(rest[0]):
        rest = rest[1:]
    if _HIGHER.search(genus):
        return Parsed(None, None, genus, bool(rest and _is_open(rest[0])))
    if (
        unsure
        or "?" in name
        or any(_is_open(word) for word in rest)
        or re.search(r"\bs\. ?l(?:at)?\.|\bsensu lato\b", name)
    ):
        return Parsed(None, genus, None, True)
    if rest and _EPITHET.fullmatch(rest[0]) and rest[0].strip(".") not in _NOT_EPITHETS:
        return Parsed(f"{genus} {rest[0]}", genus, None, False)
    # a code such as AntWeb's "Pheidole jtl-001" stands where an epithet would
    return Parsed(None, genus, None, bool(rest and (rest[0][0].islower() or re.search(r"\d", rest[0]))))


def _hybrid(genus: str, rest: list[str]) -> Parsed:
    """A hybrid is no species: the genus, where both parents are of it."""
    others = [word for word in rest if _GENUS.fullmatch(word) and len(word) > 2]
    parents = [word for word, after in pairwise(rest) if word in others and _EPITHET.fullmatch(after)]
    return Parsed(None, None if any(one != genus for one in parents) else genus, None, True)


def _is_open(word: str) -> bool:
    bare = word.lower().replace(".", "").strip("(),[]")
    # "sp.1", "nov.sp.", "rufa-group"
    coded = re.fullmatch(r"(?:n|nov)?spp?(?:n|nov)?[-_#]?\d*[a-z]?", bare)
    return coded is not None or bare.rpartition("-")[2] in _OPEN


def cleaned(text: str | None) -> str:
    """A name with single spaces; a file's underscores are spaces; "lasius niger" and "LASIUS NIGER" are mended."""
    name = unicodedata.normalize("NFC", text or "").replace("\u00a0", " ").strip(" \t\r\n\"'")
    if " " not in name:
        name = name.replace("_", " ")
    name = " ".join(name.split())
    words = name.split()
    plain = len(words) > 1 and words[0].isalpha() and words[0].lower() not in _NO_NAMES | _OPEN
    return name.capitalize() if plain and (name == name.lower() or name == name.upper()) else name


class Placed(NamedTuple):
    """Where a name belongs: its lineage, the names above it that the backbone tells, or the reason why nowhere."""

    lineage: Lineage
    above: frozenset[str]
    reason: str | None


class Names:
    """Places names by the backbone's answers and, where it has none for a name, by the rules.

    Attributes:
        queries: every name that was looked for, as it is put to the backbone.
    """

    def __init__(self, answers: dict[str, dict[str, Any]] | None = None, *, confidence: int = 0) -> None:
        self.queries: set[str] = set()
        self._answers = answers or {}
        self._confidence = confidence
        self._placed: dict[tuple[str, Lineage, bool], Placed] = {}

    def place(self, name: str | None, given: Lineage, *, trusted: bool) -> Placed:
        """Place a name.

        Args:
            name: as the source writes it, with or without authors.
            given: what the source's own columns say; followed in what the name does not say.
            trusted: the source's own placement stands where the backbone does not know the name.
        """
        key = (name or "", given, trusted)
        if key not in self._placed:
            self._placed[key] = self._place(*key)
        return self._placed[key]

    def _place(self, name: str, given: Lineage, trusted: bool) -> Placed:
        parsed = parse(name)
        by_rules = _by_rules(parsed, given)
        query = query_of(name, parsed)
        if query:
            self.queries.add(query)
        answer = self._answers.get(query)
        if answer is None:
            return by_rules
        told = Lineage(*(answer.get(rank) or None for rank in ("species", "genus", "family")))
        if not self._is_sure(answer, given) or not (told.taxon_id or parsed.above):
            return by_rules if trusted else Placed(given, frozenset(), NOT_PLACED)
        above = frozenset(answer[rank] for rank in RANKS if answer.get(rank))
        if parsed.is_open:
            told = told._replace(species=None)
        return Placed(told, above, None if told.taxon_id else ABOVE_GENUS)

    def _is_sure(self, answer: dict[str, Any], given: Lineage) -> bool:
        """Whether an answer may be followed; a misspelling must not lead into another family."""
        kind = answer.get("matchType")
        if kind not in ("EXACT", "FUZZY", "HIGHERRANK") or (answer.get("confidence") or 0) < self._confidence:
            return False
        family = answer.get("family")
        return kind == "EXACT" or not (given.family and family and given.family != family)


def _by_rules(parsed: Parsed, given: Lineage) -> Placed:
    if not any(parsed[:3]) and not any(given):
        return Placed(given, frozenset(), NOT_PLACED)
    family = given.family or (parsed.above if (parsed.above or "").endswith("idae") else None)
    if parsed.is_open:
        one = Lineage(None, parsed.genus or given.genus, family)
    else:
        one = lineage(parsed.species or given.species, given.genus or parsed.genus, family)
    return Placed(one, frozenset(), None if one.taxon_id else ABOVE_GENUS)


def query_of(name: str | None, parsed: Parsed | None = None) -> str:
    """What is put to the backbone for a name: the genus of open nomenclature, else the name with its authors."""
    parsed = parsed or parse(name)
    if not any(parsed[:3]):
        return ""
    return (parsed.genus or "") if parsed.is_open and not parsed.above else parsed.above or cleaned(name)


def read_backbone(path: Path) -> dict[str, dict[str, Any]]:
    """The answers by the name that was asked for; none where there is no such file.

    Raises:
        InputError: if a line is no answer.
    """
    return {entry["name"]: entry["answer"] for entry in entries(path)}


def entries(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file of answers: name, hints, date and version with the answer as GBIF gave it."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                if not isinstance(entry["name"], str) or not isinstance(entry["answer"], dict):
                    raise ValueError("name or answer is of another type")
            except (ValueError, KeyError, TypeError) as error:
                message = " ".join(str(error).split())
                raise InputError(
                    f"{path}: line {number}: no answer of the backbone ({message}); delete the line"
                ) from None
            yield entry
