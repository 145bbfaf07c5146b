"""The stage ``dataset``: of a study of species, of the taxa of animals on trays, or of individuals."""

from pathlib import Path

from instar.dataset.decisions import DECISIONS, HELD_OUT
from instar.dataset.found import FOUND
from instar.dataset.individuals import individuals as identities
from instar.dataset.specimens import no_specimens, read_specimens
from instar.dataset.stage import dataset as species
from instar.dataset.taxa import taxa
from instar.errors import InputError
from instar.files import write_csv
from instar.tables import csv_rows


def dataset(
    crops: Path,
    taxonomy: Path,
    annotations: Path,
    detections: Path,
    individuals: Path,
    decisions: Path,
    earlier: Path,
    specimens: Path,
    out: Path,
    out_held_out: Path,
    out_specimens: Path,
    out_metrics: Path,
    out_examples: Path,
    out_found: Path,
    *,
    labels: list[str],
    seed: int,
    shards: list[str],
    licences: list[str],
    min_crop_px: int,
    min_class_crops: int,
    near_duplicate_bits: int,
    split_by: str,
    held_out_observers: float,
    validation_crops: int,
    test_crops: int,
    low_share: float,
    held_out_share: float,
    new_share: float,
    areas_px: list[int],
    max_px: int,
    jpeg_quality: int,
) -> None:
    """Clean the crops, label and split them: species (``stage``), taxa (``taxa``) or individuals (``individuals``).

    Species are told by photograph and split by groups of them. Taxa are told by animal, and a crop is in the split that
    its photograph has in the annotations. Individuals are told by photograph and split by encounters.

    Args:
        crops: folder of ``<shard>.parquet`` with the crops and their ancestry.
        taxonomy: table of the taxa that the crops, or the animals, carry.
        annotations: COCO JSON with the animals' taxa; of a study of taxa.
        detections: folder of ``<shard>.parquet`` with the masks; of a study of taxa.
        individuals: table of the photographs' identities; of a study of individuals.
        decisions: CSV of a review's decisions: key, verdict (keep, drop, relabel), label, who, when, why, sha256.
        earlier: CSV of the observations that an earlier run held out (its ``held_out.csv``): they never train; of
            individuals the encounters, for the splits by time and open_set.
        specimens: folder of photographs of single specimens with a table of their names; of a study of taxa.
        out: gets one row per crop, in the order of the shards: its label and split, or the reason it was dropped.
        out_held_out: gets the observations that are held out and their split, as CSV.
        out_specimens: folder; gets the crops of the specimens, none in a study of species.
        out_metrics: gets the numbers, as JSON.
        out_examples: gets where up to 12 crops of each class lie, as CSV.
        out_found: gets how many animals and crops of each size have each other, as CSV; a header in a study of species.
        labels: species, taxon or identity.
        seed: of the split, or of the examples.
        shards: names of the shards.
        licences: crops with another one are dropped.
        min_crop_px: a box narrower or lower than this is dropped.
        min_class_crops: a species with fewer crops is dropped; a taxon with fewer training crops is no class.
        near_duplicate_bits: perceptual hashes that differ in at most so many bits are near-duplicates; not of taxa.
        split_by: species: observation or observer; photograph or random, which leak, are for comparison; identity:
            published, time or open_set.
        held_out_observers: species: of the observers, for a split by observer.
        validation_crops: species: of each, where it has enough groups.
        test_crops: species: of each, for a test split made the same way; 0 for none.
        low_share: taxon: of the target, for all low-confidence taxa of a crop together.
        held_out_share: identity: of an individual's photographs, for the splits by time and open_set.
        new_share: identity: of the individuals of each data set, wholly held out by open_set.
        areas_px: areas at which medium and large animals begin, pixels of the photograph.
        max_px: longer side of a specimen's crop.
        jpeg_quality: of the specimens' crops.

    Raises:
        InputError: if a table is missing or damaged, a key stands twice, or no crop is left or can be held out; or in a
            study of taxa, if there are decisions or earlier splits.
    """
    if labels == ["identity"]:
        identities(
            crops,
            individuals,
            decisions,
            earlier,
            out,
            out_held_out,
            out_metrics,
            out_examples,
            seed=seed,
            shards=shards,
            licences=licences,
            min_crop_px=min_crop_px,
            near_duplicate_bits=near_duplicate_bits,
            split_by=split_by,
            held_out_share=held_out_share,
            new_share=new_share,
        )
    elif labels != ["taxon"]:
        species(
            crops,
            taxonomy,
            decisions,
            earlier,
            out,
            out_held_out,
            out_metrics,
            out_examples,
            seed=seed,
            shards=shards,
            licences=licences,
            min_crop_px=min_crop_px,
            min_class_crops=min_class_crops,
            near_duplicate_bits=near_duplicate_bits,
            split_by=split_by,
            held_out_observers=held_out_observers,
            validation_crops=validation_crops,
            test_crops=test_crops,
        )
    if labels != ["taxon"]:
        no_specimens(out_specimens)
        write_csv(out_found, FOUND, [])
        return
    for key, path, columns in (("decisions", decisions, DECISIONS), ("earlier", earlier, HELD_OUT)):
        if any(True for _ in csv_rows(path, columns)):
            raise InputError(
                f"{path}: has rows, which a study of taxa does not take: its labels and splits are those of the "
                f"annotations; set dataset.{key} to the empty table"
            )
    further = read_specimens(specimens, taxonomy, out_specimens, max_px=max_px, jpeg_quality=jpeg_quality)
    taxa(
        crops,
        taxonomy,
        annotations,
        detections,
        out,
        out_held_out,
        out_metrics,
        out_examples,
        out_found,
        seed=seed,
        shards=shards,
        licences=licences,
        min_crop_px=min_crop_px,
        min_class_crops=min_class_crops,
        low_share=low_share,
        areas_px=areas_px,
        specimens=further.labelled,
        specimens_dropped=further.dropped,
    )
