"""What variants are called."""

from typing import Any

BASE = "base"


def name_of(factor: str, value: Any, base: Any) -> str:
    """The variant with this value of a factor, whose value in params.yaml is ``base``."""
    return BASE if value == base else f"{factor}_{value}"
