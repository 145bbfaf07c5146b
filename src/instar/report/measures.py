"""Figures of the detector and the classifier with their intervals, worded for the page."""

from dataclasses import dataclass
from typing import Any

#: Columns of plots/groups.csv.
GROUPS = ["by", "group", "crops", "species_top1", "species_low", "species_high"]
GROUPS += ["genus_top1", "genus_low", "genus_high"]


@dataclass(frozen=True)
class Measure:
    """A share in [0, 1] and what it means."""

    name: str
    value: float
    low: float | None  # of the 95 % interval; None where there is none of any width
    high: float | None
    meaning: str

    def __post_init__(self) -> None:
        if not varies(self.value, self.low, self.high):
            object.__setattr__(self, "low", None)
            object.__setattr__(self, "high", None)

    @property
    def value_text(self) -> str:
        """``71.2 %``."""
        return percent(self.value, 1)

    @property
    def interval_text(self) -> str:
        """``64.0 to 78.1 %``."""
        return "" if self.low is None or self.high is None else f"{100 * self.low:.1f} to {percent(self.high, 1)}"

    @property
    def short(self) -> str:
        """``71 % (64–78 %)``, for a sentence."""
        low_high = "" if self.low is None or self.high is None else f" ({100 * self.low:.0f}–{percent(self.high)})"
        return percent(self.value) + low_high


def varies(value: float, low: float | None, high: float | None) -> bool:
    """Whether an interval is worth telling: resamples that are all alike, of crops that are all right or one to each
    class, tell nothing of others."""
    return low is not None and not low == high == value


def where_known(metrics: dict[str, Any]) -> str:
    """Of the true place, of how many crops it is one, from metrics/evaluation.json; an empty text if of all."""
    crops, without = metrics["crops"], metrics["crops_without_place"]
    return f", where known ({crops - without:,} of {crops:,} crops)" if without else ""


def percent(share: float, digits: int = 0) -> str:
    """``71 %``, which does not break at the end of a line."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"
