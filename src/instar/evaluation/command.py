"""The stage ``evaluation``: of a classifier of species, or of the taxa of animals on trays."""

from pathlib import Path

from instar.evaluation.counted import ABUNDANCE
from instar.evaluation.stage import evaluation as species
from instar.evaluation.taxa import ACCURACY, taxa
from instar.files import write_csv


def evaluation(
    classifier: Path,
    crops: Path,
    dataset: Path,
    taxonomy: Path,
    annotations: Path,
    barcodes: Path,
    found: Path,
    other: Path,
    synonyms: Path,
    out: Path,
    out_photographs: Path,
    out_metrics: Path,
    out_classes: Path,
    out_confusion: Path,
    out_accuracy: Path,
    out_groups: Path,
    out_reliability: Path,
    out_rollup: Path,
    out_identifiers: Path,
    out_taxa: Path,
    out_abundance: Path,
    *,
    labels: list[str],
    seed: int,
    shards: list[str],
    name_confidence: int,
    bootstrap: int,
    resolutions: list[int],
    region_deg: float,
    wanted_accuracy: float,
    photo_boxes: int,
) -> None:
    """Judge the classifier on held-out crops: of species (``stage.evaluation``) or of taxa (``taxa.taxa``).

    A study of taxa also counts the animals of each taxon in each sample. Tables of what the other kind of study is
    judged by have a header alone.

    Args:
        classifier: folder with the trained weights and their description.
        crops: folder of ``<shard>.tar`` and ``<shard>.parquet`` with the crops.
        dataset: table of their labels and splits.
        taxonomy: table of the photographs' taxa.
        annotations: COCO JSON with a split for each annotated photograph; one that trained the detector or chose its
            weights is not judged, its crops are.
        barcodes: table of the taxa barcoded in each sample; of a study of taxa.
        found: CSV of how many animals and crops of each size have each other; of a study of taxa.
        other: CSV of another identifier's answers: photo_key and top1 to top5; a header alone compares nothing.
        synonyms: CSV with the columns name and accepted, or a backbone.jsonl, by which names are compared.
        out: gets the five best species and genera of each judged crop.
        out_photographs: gets those of each photograph of a held-out observation.
        out_metrics: gets top-1 and top-5 over crops (micro) and over classes (macro), and all other figures, as JSON.
        out_classes: gets the figures of each class, as CSV.
        out_confusion: gets the true and the predicted genus of each crop, as CSV.
        out_accuracy: gets a line of accuracies for each resolution and kind of place, as CSV.
        out_groups: gets the accuracy by class size, by source and by region, as CSV.
        out_reliability: gets accuracy against confidence at the fitted temperature, as CSV.
        out_rollup: gets accuracy and coverage by threshold, when the lowest rank that is sure is answered, as CSV.
        out_identifiers: gets the answers and points of both identifiers for each photograph, as CSV.
        out_taxa: gets the accuracies of taxa with and without barcodes, as CSV.
        out_abundance: gets the animals of each taxon in each sample, as CSV.
        labels: species or taxon.
        seed: of the resampling, the wrong places and the draw of photographs.
        shards: names of the shards.
        name_confidence: of an answer of GBIF's backbone, percent; one with less is no match.
        bootstrap: number of resamples.
        resolutions: sides of the network's input to judge at, pixels; the training's own comes first in any case.
        region_deg: side of a region, degrees.
        wanted_accuracy: of the roll-up's answers; the threshold is chosen for it on validation crops, crosswise by half
            of their observations where these are judged.
        photo_boxes: crops of a photograph that are summed, those with the highest scores.

    Raises:
        InputError: if the classifier is missing or damaged, a crop can't be read, there is no crop to judge, the
            classifier was trained on another dataset or can't take a resolution, or a table of the other identifier
            is damaged.
    """
    if labels == ["taxon"]:
        taxa(
            classifier,
            crops,
            dataset,
            taxonomy,
            annotations,
            barcodes,
            found,
            out,
            out_photographs,
            out_metrics,
            out_classes,
            out_reliability,
            out_taxa,
            out_abundance,
            seed=seed,
            shards=shards,
            bootstrap=bootstrap,
        )
        for path, columns in (
            (out_confusion, ["actual", "predicted"]),
            (out_accuracy, ["image_px", "place", "crops"]),
            (out_groups, ["by", "group", "crops"]),
            (out_rollup, ["threshold", "coverage", "accuracy"]),
            (out_identifiers, ["photo_key"]),
        ):
            write_csv(path, columns, [])
        return
    species(
        classifier,
        crops,
        dataset,
        taxonomy,
        annotations,
        other,
        synonyms,
        out,
        out_photographs,
        out_metrics,
        out_classes,
        out_confusion,
        out_accuracy,
        out_groups,
        out_reliability,
        out_rollup,
        out_identifiers,
        seed=seed,
        shards=shards,
        name_confidence=name_confidence,
        bootstrap=bootstrap,
        resolutions=resolutions,
        region_deg=region_deg,
        wanted_accuracy=wanted_accuracy,
        photo_boxes=photo_boxes,
    )
    write_csv(out_taxa, ACCURACY, [])
    write_csv(out_abundance, ABUNDANCE, [])
