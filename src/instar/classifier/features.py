"""What a frozen backbone makes of crops: worked out once and kept by content."""

import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from instar.classifier.data import Item, Shown, Views, batches
from instar.classifier.memory import naming_short_memory
from instar.classifier.model import Description
from instar.classifier.place import jitter
from instar.files import replacing
from instar.progress import progress
from instar.unfinished import KEPT_DAYS

#: Axes of a batch (n, 3, height, width) that each variant is mirrored along.
VARIANTS: dict[str, list[list[int]]] = {"none": [[]], "horizontal": [[], [3]], "both": [[], [3], [2], [2, 3]]}


class Features(Dataset[Item]):
    """Features of whole crops and of their mirror images, of which a draw takes one, with place and target.

    Args:
        features: float16, shape (n, variants, width).
        targets: int64, shape (n,).
        places: float32, shape (n, 2), degrees, NaN where unknown.
        shown: its seed and what happens to places.
    """

    def __init__(self, features: np.ndarray, targets: np.ndarray, places: np.ndarray, shown: Shown) -> None:
        self._features, self._targets, self._places, self._shown = features, targets, places, shown

    def __len__(self) -> int:
        return len(self._targets)

    def __getitem__(self, item: tuple[int, int]) -> Item:
        index, draw = item
        rng = np.random.default_rng((self._shown.seed, draw))
        variant = int(rng.integers(self._features.shape[1]))
        place = jitter(rng, self._places[index], noise_deg=self._shown.place_noise_deg, drop=self._shown.place_drop)
        features = torch.from_numpy(np.array(self._features[index, variant]))
        return features, torch.from_numpy(place), int(self._targets[index])


def cached_features(
    root: Path,
    backbone: torch.nn.Module,
    description: Description,
    views: Views,
    crops_sha256: str,
    *,
    flip: str,
    batch: int,
    precision: str,
) -> np.ndarray:
    """Features of every view and its mirror images, from an earlier run if one left them.

    Args:
        root: folder of such files, each named by a hash of all that it depends on; those that no run has used for
            ``KEPT_DAYS`` are deleted.
        backbone: maps pixels to (n, width).
        description: how pixels are normalised.
        views: whole crops.
        crops_sha256: of all crops, in the order of ``views``.
        flip: none, horizontal or both.
        batch: crops through the backbone at a time; the files' names do not depend on it.
        precision: of the backbone's arithmetic, bf16-mixed or 32-true as Lightning names them.

    Returns:
        float16, shape (n, variants, width), on disk.

    Raises:
        InputError: if memory is short.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    told = [description.model, description.image_px, description.mean, description.std, flip, _sha256(backbone)]
    told += [description.code_sha256, device.type, precision]
    path = root / f"{hashlib.sha256(repr((told, crops_sha256)).encode()).hexdigest()}.npy"
    root.mkdir(parents=True, exist_ok=True)
    for old in [*root.glob("*.npy"), *root.glob(".*.part-*")]:  # also what a killed run began
        if old.stat().st_mtime < time.time() - KEPT_DAYS * 86400:
            old.unlink(missing_ok=True)
    if path.is_file():
        path.touch()
    else:
        half = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")
        with naming_short_memory(), replacing(path) as temporary:
            # outside inference_mode, in which moved weights could never be trained again
            backbone = backbone.to(device).eval()
            with torch.inference_mode(), half:
                _write(temporary, backbone, description, views, VARIANTS[flip], batch)
    found: np.ndarray = np.load(path, mmap_mode="r")
    return found


def _write(
    path: Path, backbone: torch.nn.Module, description: Description, views: Views, variants: list[list[int]], batch: int
) -> None:
    device = next(backbone.parameters()).device
    width = int(getattr(backbone, "num_features"))  # noqa: B009
    shape = (len(views), len(variants), width)
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(
            file, {"descr": np.dtype(np.float16).str, "fortran_order": False, "shape": shape}
        )
        steps = -(-len(views) // batch)
        for pixels, _, _ in progress(batches(views, batch=batch), f"features: batches of {batch} crops", steps):
            normalised = description.normalise(pixels.to(device))
            found = [backbone(normalised.flip(axes)) for axes in variants]
            file.write(torch.stack(found, dim=1).half().cpu().numpy().tobytes())


def _sha256(backbone: torch.nn.Module) -> str:
    found = hashlib.sha256()
    for name, tensor in sorted(backbone.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
