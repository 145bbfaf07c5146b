"""Scores of photographs by single ways, kept in a file so that those of several classifiers can be fused."""

from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from instar.errors import InputError
from instar.evaluation.judging import Parts
from instar.evaluation.ways import Single
from instar.files import replacing
from instar.reid.photographs import Known
from instar.reid.scores import Scores

#: What a split's arrays that are no scores are called.
_KEY, _FALLBACK = "key", "fallback"


def write_scores(path: Path, parts: Parts, singles: Mapping[str, Single]) -> None:
    """Write the scores of each split by each way, as arrays ``<split>/<way>`` of a ``.npz``.

    Args:
        path: file to write.
        parts: photographs.
        singles: by split, rows ``part`` compared with the individuals of rows ``gallery``.
    """
    keys = parts.rows["key"].to_numpy(dtype=str)
    arrays: dict[str, np.ndarray] = {}
    for split, single in singles.items():
        arrays[f"{split}/{_KEY}"] = keys[single.part]
        arrays |= {f"{split}/{way}": scores.values for way, scores in single.found.items()}
        # whether only the opposite side was there depends on the photographs, not on the way
        arrays[f"{split}/{_FALLBACK}"] = single.found["nearest"].fallback
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_scores(path: Path, parts: Parts) -> dict[str, Single]:
    """What ``write_scores`` wrote of the same photographs.

    Raises:
        InputError: if the file is missing or damaged, or is of other photographs.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise InputError(f"{path}: not a table of scores ({error}); delete its folder and compare again") from None
    label, dataset, keys = (parts.rows[name].to_numpy(dtype=object) for name in ("label", "dataset", "key"))
    found = {}
    for split, gallery in parts.galleries.items():
        part, known = parts.part[split], Known.of(label[gallery], dataset[gallery])
        own = {name.partition("/")[2]: values for name, values in arrays.items() if name.startswith(f"{split}/")}
        if not np.array_equal(own.pop(_KEY, np.zeros(0, str)), keys[part].astype(str)):
            raise InputError(
                f"{path}: scores of other photographs than those of {split}; delete its folder and compare again"
            )
        fallback = own.pop(_FALLBACK)
        found[split] = Single(part, gallery, known, {way: Scores(values, fallback) for way, values in own.items()})
    return found
