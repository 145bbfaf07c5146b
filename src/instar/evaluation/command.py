"""The stage ``evaluation``: of a classifier of species, of the taxa of animals on trays, or of individuals."""

from pathlib import Path

from instar.evaluation.counted import ABUNDANCE
from instar.evaluation.individuals import MATCHES
from instar.evaluation.individuals import individuals as identities
from instar.evaluation.judging import CMC, FIGURES, SWEEP
from instar.evaluation.stage import evaluation as species
from instar.evaluation.submission import COLUMNS as SUBMISSION
from instar.evaluation.taxa import ACCURACY, taxa
from instar.evaluation.ways import Settings
from instar.files import replacing, write_csv
from instar.tables import PHOTOGRAPHS, write_table

#: Tables that some kinds of study fill, by argument, and what their header says where it is alone.
_HEADERS = {
    "out_classes": ("label", "rank", "crops"),
    "out_confusion": ("actual", "predicted"),
    "out_accuracy": ("image_px", "place", "crops"),
    "out_groups": ("by", "group", "crops"),
    "out_reliability": ("confidence", "accuracy"),
    "out_rollup": ("threshold", "coverage", "accuracy"),
    "out_identifiers": ("photo_key",),
    "out_taxa": ACCURACY,
    "out_abundance": ABUNDANCE,
    "out_submission": SUBMISSION,
    "out_openset": SWEEP,
    "out_cmc": CMC,
    "out_individuals": FIGURES,
    "out_matches": MATCHES,
}
#: Those that a study of species or of taxa fills.
_OF_SPECIES = {"out_classes", "out_confusion", "out_accuracy", "out_groups", "out_reliability", "out_rollup"}
_OF_SPECIES |= {"out_identifiers"}
_OF_TAXA = {"out_classes", "out_reliability", "out_taxa", "out_abundance"}
_OF_INDIVIDUALS = {"out_submission", "out_openset", "out_cmc", "out_individuals", "out_matches"}


def evaluation(
    classifier: Path,
    crops: Path,
    dataset: Path,
    taxonomy: Path,
    annotations: Path,
    barcodes: Path,
    found: Path,
    individuals: Path,
    local_weights: Path,
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
    out_submission: Path,
    out_gallery: Path,
    out_openset: Path,
    out_cmc: Path,
    out_individuals: Path,
    out_matches: Path,
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
    answer_by: str,
    threshold_by: str,
    neighbours: int,
    flips: bool,
    sides: bool,
    local: str,
    local_candidates: int,
) -> None:
    """Judge the classifier on held-out crops: of species (``stage``), taxa (``taxa``) or individuals (``individuals``).

    A study of taxa also counts the animals of each taxon in each sample, and one of individuals answers its queries.
    Tables of what another kind of study is judged by have a header alone.

    Args:
        classifier: folder with the trained weights and their description.
        crops: folder of ``<shard>.tar`` and ``<shard>.parquet`` with the crops.
        dataset: table of their labels and splits.
        taxonomy: table of the photographs' taxa.
        annotations: COCO JSON with a split for each annotated photograph; one that trained the detector or chose its
            weights is not judged, its crops are.
        barcodes: table of the taxa barcoded in each sample; of a study of taxa.
        found: CSV of how many animals and crops of each size have each other; of a study of taxa.
        individuals: table of the photographs' identities; of a study of individuals.
        local_weights: folder of LightGlue's weights; any path where local is not lightglue.
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
        out_submission: gets the answers for queries as AnimalCLEF25 takes them, as CSV.
        out_gallery: folder; gets what each known photograph is compared by, for ``instar enroll``.
        out_openset: gets BAKS, BAUS and their score at each threshold, as CSV.
        out_cmc: gets the shares of photographs whose individual is among the best few, as CSV.
        out_individuals: gets the figures of each way to compare and each data set, as CSV.
        out_matches: gets a few photographs with the most similar one of the best individual, as CSV.
        labels: species, taxon or identity.
        seed: of the resampling, the wrong places and the draw of photographs.
        shards: names of the shards.
        name_confidence: of an answer of GBIF's backbone, percent; one with less is no match.
        bootstrap: number of resamples.
        resolutions: sides of the network's input to judge at, pixels; the training's own comes first in any case.
        region_deg: side of a region, degrees.
        wanted_accuracy: of the roll-up's answers; the threshold is chosen for it on validation crops, crosswise by half
            of their observations where these are judged.
        photo_boxes: crops of a photograph that are summed, those with the highest scores.
        answer_by: identity: softmax, nearest, centroid, local or fused.
        threshold_by: identity: one threshold for all, or one for each dataset.
        neighbours: identity: most similar photographs of each individual that nearest averages.
        flips: identity: compare photographs and their mirror images together.
        sides: identity: do not compare photographs of opposite sides.
        local: identity: local features that are matched, too, none, sift or lightglue.
        local_candidates: identity: photographs, most similar first, that they are matched with.

    Raises:
        InputError: if the classifier is missing or damaged, a crop can't be read, there is no crop to judge, the
            classifier was trained on another dataset or can't take a resolution, or a table of the other identifier
            is damaged.
    """
    given = locals()
    paths = {name: value for name, value in given.items() if name in _HEADERS}
    if labels == ["identity"]:
        identities(
            classifier,
            crops,
            dataset,
            individuals,
            out,
            out_submission,
            out_gallery,
            out_metrics,
            out_openset,
            out_cmc,
            out_individuals,
            out_matches,
            seed=seed,
            bootstrap=bootstrap,
            settings=Settings.of(given),
            answer_by=answer_by,
            threshold_by=threshold_by,
        )
        write_table(out_photographs, [], PHOTOGRAPHS)
    elif labels == ["taxon"]:
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
    else:
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
    filled = {"identity": _OF_INDIVIDUALS, "taxon": _OF_TAXA}.get(labels[0], _OF_SPECIES)
    for name in _HEADERS.keys() - filled:
        write_csv(paths[name], _HEADERS[name], [])
    if labels != ["identity"]:
        with replacing(out_gallery) as folder:
            folder.mkdir()
