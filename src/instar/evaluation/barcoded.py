"""Predictions restricted to the taxa that barcoding found in a sample."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from instar.lineages import Lineages
from instar.tables import BARCODES, read_table

if TYPE_CHECKING:
    from instar.classifier.labels import LabelSpace


def read_barcodes(path: Path) -> dict[str, set[str]]:
    """Ids of the taxa that were barcoded in each sample, by its observation id."""
    found: dict[str, set[str]] = {}
    for row in read_table(path, BARCODES).select(["observation_id", "taxon_id"]).to_pylist():
        found.setdefault(row["observation_id"], set()).add(row["taxon_id"])
    return found


def members(labels: "LabelSpace", outputs: np.ndarray) -> np.ndarray:
    """bool, shape (n_outputs, n_classes): the classes that each output is or belongs to."""
    found = np.zeros((len(outputs), len(labels)), bool)
    for place, output in enumerate(outputs):
        found[place, list(labels.lineages[output])] = True
    return found


def allowed(labels: "LabelSpace", outputs: np.ndarray, lineages: Lineages, barcoded: set[str]) -> np.ndarray:
    """Which outputs of a classifier barcoding leaves possible.

    An output stays where the list names its taxon, one that belongs to it, or one that it belongs to. Where of a
    barcoded taxon nothing would stay, since the classifier tells its relatives apart and not it, all that belongs to
    the lowest class above it stays: the sample's Phoridae are Diptera, though Chironomidae are the only Diptera that
    are a class.

    Args:
        labels: the classes.
        outputs: int64, shape (n_outputs,), the class of each output.
        lineages: the taxonomy.
        barcoded: ids of taxa; one that the taxonomy lacks stands for itself.

    Returns:
        bool, shape (n_outputs,). All true where nothing on the list is among the classes, above or below one.
    """
    known = lineages.ids
    ids = [known.get((rank, name)) for rank, name in zip(labels.ranks, labels.names, strict=True)]
    below = {step for one in barcoded for step in lineages.path(one)}
    stays = np.zeros(len(outputs), bool)
    for place, output in enumerate(outputs):
        # a class that only specimens have is not in the taxonomy; the classes above it may be
        above = {step for node in labels.lineages[output] if (own := ids[node]) for step in lineages.path(own)}
        stays[place] = ids[output] in below or bool(above & barcoded)
    of_class = {own: node for node, own in enumerate(ids) if own}
    belongs = members(labels, outputs)
    nodes = [next((of_class[step] for step in lineages.path(one) if step in of_class), None) for one in barcoded]
    # asked before any is added, so that the order of the list does not matter
    without = {node for node in nodes if node is not None and not stays[belongs[:, node]].any()}
    for node in without:
        stays |= belongs[:, node]
    return stays if stays.any() else np.ones(len(outputs), bool)
