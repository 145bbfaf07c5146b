"""The data set of a study of taxa: which crop shows which animal, its label, its split, and why others have none."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from taxa_study import animal, detection, square, write_annotations, write_detections, write_taxonomy

from instar.dataset.command import dataset
from instar.errors import InputError
from instar.licences import LICENCES
from instar.lineages import TAXON_RANKS, read_lineages
from instar.tables import CROPS, TAXA_DATASET, read_table, write_table

GIVEN: dict[str, Any] = {
    "labels": ["taxon"],
    "seed": 0,
    "shards": ["a"],
    "licences": list(LICENCES),
    "min_crop_px": 1,
    "min_class_crops": 1,
    "near_duplicate_bits": 2,
    "split_by": "observation",
    "held_out_observers": 0.2,
    "held_out_share": 0.2,
    "new_share": 0.2,
    "validation_crops": 1,
    "test_crops": 0,
    "low_share": 0.25,
    "areas_px": [100, 1000],
    "max_px": 40,
    "jpeg_quality": 90,
}
TRAIN, TEST = "trays-1", "trays-2"


Rows = dict[str, dict[str, Any]]


def run(folder: Path, **given: Any) -> Rows:
    """The rows by key; what is read must have been written into the folder."""
    write_taxonomy(folder / "taxonomy.parquet")
    (folder / "specimens").mkdir(exist_ok=True)
    decisions, earlier = folder / "decisions.csv", folder / "earlier.csv"
    if not decisions.exists():
        decisions.write_text("key,verdict,label,who,when,why,sha256\n")
    earlier.write_text("observation_id,split\n")
    inputs = [folder / "crops", folder / "taxonomy.parquet", folder / "annotations.json", folder / "detections"]
    names = ("dataset.parquet", "held_out.csv", "specimen_crops", "metrics.json", "examples.csv", "found.csv")
    outputs = [folder / name for name in names]
    paths = [*inputs, folder / "individuals.parquet", decisions, earlier, folder / "specimens", *outputs]
    values: dict[str, Any] = {**GIVEN, **given}
    dataset(*paths, **values)
    return {row["key"]: row for row in read_table(folder / "dataset.parquet", TAXA_DATASET).to_pylist()}


def column(rows: Rows, name: str) -> list[Any]:
    return [row[name] for row in rows.values()]


def metrics(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text())


def found(folder: Path) -> dict[tuple[str, str], list[int]]:
    with (folder / "found.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ("animals", "found", "crops", "right")
    return {(row["split"], row["size"]): [int(row[name]) for name in names] for row in rows}


def one_of_each(folder: Path) -> None:
    """On each of two photographs Diptera, a Chironomus that may be one, an unsure one, and what has no animal."""
    places = [square(0, 0), square(50, 0), square(100, 0)]
    animals = []
    for image in (1, 2):
        names = [("order:Diptera", []), ("order:Diptera", ["family:Chironomidae", "genus:Chironomus"]), (None, [])]
        for n, (box, (taxon, low)) in enumerate(zip(places, names, strict=True)):
            animals.append(animal(10 * image + n, image, box, taxon, low))
    write_annotations(folder / "annotations.json", {TRAIN: "train", TEST: "test"}, animals)
    boxes = [*places, square(0, 60)]
    write_detections(folder, [detection(key, n, box) for key in (TRAIN, TEST) for n, box in enumerate(boxes)])


def test_no_crop_at_all_is_told(tmp_path: Path) -> None:
    write_annotations(tmp_path / "annotations.json", {TRAIN: "train"}, [])
    write_detections(tmp_path, [], (TRAIN,))
    with pytest.raises(InputError, match=r"no crop for training is left of 0 \(no crop\)"):
        run(tmp_path)


def test_labels_splits_and_reasons_by_hand(tmp_path: Path) -> None:
    one_of_each(tmp_path)
    rows = run(tmp_path)
    assert column(rows, "reason") == 2 * [None, None, "animal without a sure label", "no annotated animal"]
    assert column(rows, "split") == ["train", "train", None, None, "test", "test", None, None]
    assert [rows["trays-1-0"][name] for name in (*TAXON_RANKS, "label", "rank")] == [
        None, "Diptera", "Insecta", "Diptera", "order",
    ]  # fmt: skip
    # the two low-confidence taxa are one family
    assert rows["trays-1-1"]["low"] == [["Chironomidae", "Diptera", "Insecta"]]
    assert column(rows, "low_share") == [0, 0.25, 0, 0, 0, 0.25, 0, 0]
    assert metrics(tmp_path)["rows"] == {
        "in": 8,
        "out": 4,
        "dropped": {"animal without a sure label": 2, "no annotated animal": 2},
    }
    assert metrics(tmp_path)["splits"]["train"]["with_low_confidence"] == 1
    assert (tmp_path / "held_out.csv").read_text() == "observation_id,split\nsample of trays-2,test\n"


def test_an_animal_is_one_crops_and_the_best_score_comes_first(tmp_path: Path) -> None:
    write_annotations(
        tmp_path / "annotations.json", {TRAIN: "train"}, [animal(1, 1, square(0, 0), "order:Diptera", [])]
    )
    # the worse one fits better; IoU 0.6 and 1
    rough = (0, 0, 20, 12)
    write_detections(tmp_path, [detection(TRAIN, 0, square(0, 0), 0.5), detection(TRAIN, 1, rough, 0.9)])
    rows = run(tmp_path)
    assert column(rows, "label") == [None, "Diptera"]
    assert column(rows, "iou") == [None, pytest.approx(0.6)]


@pytest.mark.parametrize("mask", [True, False])
def test_an_overlap_of_a_half_is_enough_and_less_is_not(tmp_path: Path, mask: bool) -> None:
    animals = [animal(n, 1, square(x, 0), "order:Diptera", [], mask=mask) for n, x in enumerate((0, 50))]
    write_annotations(tmp_path / "annotations.json", {TRAIN: "train"}, animals)
    boxes = [(0, 0, 20, 10), (50, 0, 70, 9)]  # IoU 0.5 and 0.45
    write_detections(tmp_path, [detection(TRAIN, n, box, mask=mask) for n, box in enumerate(boxes)])
    rows = run(tmp_path)
    assert column(rows, "label") == ["Diptera", None]
    assert column(rows, "area") == [200, 180]


def labelled(folder: Path, taxa: list[str], *, low: dict[int, list[str]] | None = None, **given: Any) -> Rows:
    """Training crops, one of each taxon."""
    boxes = [square(0 + 22 * (n % 9), 22 * (n // 9)) for n in range(len(taxa))]
    animals = [animal(n, 1, box, taxa[n], (low or {}).get(n, [])) for n, box in enumerate(boxes)]
    write_annotations(folder / "annotations.json", {TRAIN: "train"}, animals)
    write_detections(folder, [detection(TRAIN, n, box) for n, box in enumerate(boxes)])
    return run(folder, **given)


def test_a_label_is_the_lowest_rank_not_below_family(tmp_path: Path) -> None:
    taxa = ["genus:Chironomus", "suborder:Nematocera", "class:Insecta", "phylum:Arthropoda", "family:Orphanidae"]
    rows = labelled(tmp_path, taxa)
    assert column(rows, "label") == ["Chironomidae", "Diptera", "Insecta", None, "Orphanidae"]
    assert column(rows, "rank") == ["family", "order", "class", None, "family"]
    assert column(rows, "reason") == [None, None, None, "above class", None]
    assert [rows["trays-1-4"][rank] for rank in TAXON_RANKS] == ["Orphanidae", None, "Insecta"]


def test_a_taxon_with_few_training_crops_is_no_class(tmp_path: Path) -> None:
    # two Diptera of one family each, one Araneae; what may be an Aphididae counts for it, too
    taxa = ["family:Chironomidae", "family:Phoridae", "order:Araneae", "order:Hemiptera", "family:Aphididae"]
    rows = labelled(tmp_path, taxa, low={3: ["family:Aphididae"]}, min_class_crops=2)
    assert column(rows, "label") == ["Diptera", "Diptera", None, "Hemiptera", "Aphididae"]
    assert column(rows, "reason") == [None, None, "taxon under 2 crops", None, None]
    assert column(rows, "family") == ["Chironomidae", "Phoridae", None, None, "Aphididae"]  # the truth stays
    assert rows["trays-1-3"]["low"] == [["Aphididae", "Hemiptera", "Insecta"]]


def test_held_out_crops_make_no_class(tmp_path: Path) -> None:
    names = [("order:Diptera", 1), ("family:Phoridae", 1), ("family:Phoridae", 2)]
    animals = [animal(n, image, square(50 * n, 0), taxon, []) for n, (taxon, image) in enumerate(names)]
    write_annotations(tmp_path / "annotations.json", {TRAIN: "train", TEST: "test"}, animals)
    write_detections(
        tmp_path, [detection((TRAIN, TEST)[image - 1], n, square(50 * n, 0)) for n, (_, image) in enumerate(names)]
    )
    rows = run(tmp_path, min_class_crops=2)
    assert column(rows, "label") == ["Diptera"] * 3  # two Phoridae, of which one trains
    assert column(rows, "family") == [None, "Phoridae", "Phoridae"]


def test_low_confidence_that_says_no_more_than_the_label_is_left_out(tmp_path: Path) -> None:
    low = {0: ["order:Diptera", "suborder:Nematocera", "class:Insecta", "phylum:Arthropoda"]}
    rows = labelled(tmp_path, ["order:Diptera"], low=low)
    assert rows["trays-1-0"]["low"] == []
    assert rows["trays-1-0"]["low_share"] == 0


def test_small_boxes_and_other_licences_are_dropped(tmp_path: Path) -> None:
    one_of_each(tmp_path)
    with pytest.raises(InputError, match=r"no crop for training .*\(4 under 21 px, "):
        run(tmp_path, min_crop_px=21)
    with pytest.raises(InputError, match=r"4 licence not allowed"):
        run(tmp_path, licences=["cc0"])


def test_photographs_without_annotations_have_no_labels(tmp_path: Path) -> None:
    one_of_each(tmp_path)
    boxes = [detection(key, 0, square(0, 0)) for key in (TRAIN, "trays-3")]
    write_detections(tmp_path, boxes, (TEST,))
    rows = run(tmp_path)
    assert column(rows, "reason") == [None, "photograph not annotated"]


def test_what_was_found_of_each_size_by_hand(tmp_path: Path) -> None:
    # on test: a small one found, a medium one found by a small crop, a medium and a large one missed; a wrong crop
    sizes = [(0, 0, 9, 9), (50, 0, 60, 10), (100, 0, 120, 20), (0, 40, 60, 90)]  # 81, 100, 400 and 3,000 pixels
    animals = [animal(n, 1, box, "order:Diptera", []) for n, box in enumerate(sizes)]
    animals.append(animal(9, 2, square(0, 0), "order:Diptera", []))
    write_annotations(tmp_path / "annotations.json", {TEST: "test", TRAIN: "train", "trays-9": "test"}, animals)
    boxes = [(0, 0, 9, 9), (50, 0, 59, 11), (150, 50, 170, 70)]
    crops = [detection(TEST, n, box) for n, box in enumerate(boxes)]
    # trays-9 was annotated and not fetched
    write_detections(tmp_path, [*crops, detection(TRAIN, 0, square(0, 0))])
    run(tmp_path)
    assert found(tmp_path) == {
        ("validation", "small"): [0, 0, 0, 0],
        ("validation", "medium"): [0, 0, 0, 0],
        ("validation", "large"): [0, 0, 0, 0],
        ("test", "small"): [1, 1, 2, 2],
        ("test", "medium"): [2, 1, 1, 0],
        ("test", "large"): [1, 0, 0, 0],
    }


def test_photographs_that_were_not_searched_have_no_missed_animals(tmp_path: Path) -> None:
    animals = [animal(n, n, square(0, 0), "order:Diptera", []) for n in (1, 2, 3)]
    write_annotations(tmp_path / "annotations.json", {TRAIN: "train", TEST: "test", "trays-3": "test"}, animals)
    write_detections(tmp_path, [detection(TRAIN, 0, square(0, 0))], (TEST, "trays-3"))
    crops = read_table(tmp_path / "crops/a.parquet", CROPS).to_pylist()
    crops[-1]["reason"] = "not an image"
    write_table(tmp_path / "crops/a.parquet", crops, CROPS)
    run(tmp_path)
    assert found(tmp_path)["test", "medium"] == [1, 0, 0, 0]  # searched in vain, so missed


def test_a_mask_of_another_size_is_told(tmp_path: Path) -> None:
    one_of_each(tmp_path)
    broken = detection(TRAIN, 0, square(0, 0)) | {"mask": b"5"}
    write_detections(tmp_path, [broken])
    with pytest.raises(InputError, match=r"photograph trays-1: .*run the stage detections again"):
        run(tmp_path)


def test_decisions_are_not_for_taxa(tmp_path: Path) -> None:
    one_of_each(tmp_path)
    (tmp_path / "decisions.csv").write_text("key,verdict,label,who,when,why,sha256\na,drop,,me,2024-01-01,,\n")
    with pytest.raises(InputError, match=r"set dataset\.decisions to the empty table"):
        run(tmp_path)


def test_names_that_two_ranks_share_are_told_apart(tmp_path: Path) -> None:
    write_taxonomy(tmp_path / "taxonomy.parquet")
    lineages = read_lineages(tmp_path / "taxonomy.parquet")
    assert lineages.lineage("order:Diplura") == (None, "Diplura (order)", "Diplura (class)")
    assert lineages.lineage("nowhere") == (None, None, None)
    assert lineages.ids["class", "Diplura (class)"] == "class:Diplura"


def write_specimens(folder: Path, text: str, *names: str) -> None:
    (folder / "specimens/pictures").mkdir(parents=True)
    (folder / "specimens/table.tsv").write_text(text)
    for name in names:
        Image.new("RGB", (80, 60), (120, 80, 40)).save(folder / "specimens/pictures" / name)


HEADING = "processid\tsampleid\tclass\torder\tfamily\tlicence\trights_holder\n"


def test_specimens_train_with_their_own_licences(tmp_path: Path) -> None:
    one_of_each(tmp_path)
    rows = "P1-20\tS1\tInsecta\tDiptera\tPhoridae\tCC BY-NC\tSomeone\nP2-20\tS2\tInsecta\tHemiptera\tNone\t\t\n"
    write_specimens(tmp_path, HEADING + rows, "P1-20+1604.jpg", "S2.jpg", "P3.jpg")
    (tmp_path / "specimens/pictures/S1.jpg").write_bytes(b"no picture")
    licences = [name for name in LICENCES if name != "unknown"]
    found = run(tmp_path, licences=licences)
    assert [name for name in column(found, "label") if name] == 4 * ["Diptera"] + ["Phoridae"]
    one = found["specimens-pictures-P1-20+1604"]
    assert (one["split"], one["basis"], one["label"]) == ("train", "specimen", "Phoridae")
    assert found["specimens-pictures-S2"]["reason"] == "licence not allowed"
    told = metrics(tmp_path)["specimens"]
    assert (told["in"], told["out"]) == (4, 1)
    assert told["dropped"]["licence not allowed"] == 1 and told["dropped"]["no row in the table"] == 1
    assert metrics(tmp_path)["rows"]["in"] == 8
    crops = read_table(tmp_path / "specimen_crops/specimens.parquet", CROPS).to_pylist()
    assert [(row["licence"], row["rights_holder"], row["width"]) for row in crops] == [
        ("cc-by-nc", "Someone", 40),
        ("unknown", None, 40),
    ]


def test_the_taxonomy_tells_what_is_above_a_specimens_name(tmp_path: Path) -> None:
    one_of_each(tmp_path)
    rows = "P1\tS1\tInsecta\t\tPhoridae\tCC0\t\nP2\tS2\t\tAraneae\tNovidae\tCC0\t\n"
    rows += "P3\tS3\tInsecta\tDiptera\tNovidae\tCC0\t\nP4\tS4\tArachnida\t\tNovidae\tCC0\t\n"
    write_specimens(tmp_path, HEADING + rows, "P1.jpg", "P2.jpg", "P3.jpg", "P4.jpg")
    found = run(tmp_path)
    lineages = {key: [row[rank] for rank in TAXON_RANKS] for key, row in found.items() if key.startswith("specimens")}
    assert list(lineages.values()) == [
        ["Phoridae", "Diptera", "Insecta"],
        ["Novidae", "Araneae", "Arachnida"],
        ["Novidae", None, "Arachnida"],  # tells less than P2, and nothing else
    ]
    assert metrics(tmp_path)["specimens"]["dropped"] == {
        "other taxa above its name than above the same name before": 1  # P3
    }


def test_a_specimen_with_a_broken_row_is_dropped(tmp_path: Path) -> None:
    one_of_each(tmp_path)
    whole = "Insecta\tDiptera\tPhoridae\tCC0\t"
    rows = f"P1\tS1\t{whole}\nP2\tS2\t{whole}\tmore\nP3\tS3\tDiptera\tPhoridae\n"
    write_specimens(tmp_path, HEADING + rows, "P1.jpg", "P2.jpg", "S3.jpg")
    assert [key for key in run(tmp_path) if key.startswith("specimens")] == ["specimens-pictures-P1"]
    assert metrics(tmp_path)["specimens"]["dropped"] == {"its row has a field too many or too few": 2}


def test_photographs_of_specimens_with_one_name_have_keys_of_their_own(tmp_path: Path) -> None:
    one_of_each(tmp_path)
    names = ["P1.jpg", "P1.png", f"P1_{'x' * 120}.jpg", "P1_side.jpg"]
    write_specimens(tmp_path, f"{HEADING}P1\tS1\tInsecta\tDiptera\tPhoridae\tCC0\t\n", *names)
    keys = [key for key in run(tmp_path) if key.startswith("specimens")]
    assert len(keys) == 4 and "specimens-pictures-P1_side" in keys and max(map(len, keys)) < 90
    assert len(read_table(tmp_path / "specimen_crops/specimens.parquet", CROPS)) == 4


def test_a_table_of_specimens_without_a_column_is_refused(tmp_path: Path) -> None:
    one_of_each(tmp_path)
    write_specimens(tmp_path, "processid\tclass\torder\n")
    with pytest.raises(InputError, match="column family is missing"):
        run(tmp_path)
