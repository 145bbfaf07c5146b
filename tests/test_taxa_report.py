"""The report's section on taxa."""

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mask_metrics import mask_metrics
from omegaconf import OmegaConf
from report_inputs import HOSTILE, write_inputs

from instar.files import write_json
from instar.report.stage import report
from instar.report.taxa import MOST_LINES

FOUND = {"split": ["validation", "test"], "size": ["small", "small"], "animals": [4, 0], "found": [3, 0]}
FOUND |= {"crops": [5, 0], "right": [1, 0]}
CLASSES = pd.DataFrame(
    [
        ["family", "Phoridae", 1, 2, 0, 0, None, 0],
        ["order", "Araneae", 8, 4, 0.25, 0, "Diptera", 3],
        ["order", "Coleoptera", 3, 0, None, None, None, 0],
        ["order", "Diptera", 48, 30, 1, 1, None, 0],
    ],
    columns=["rank", "label", "train_crops", "held_out_crops", "top1", "top1_barcoded", "taken_for", "taken_for_crops"],
)


def write_taxa(root: Path, abundance: list[dict[str, Any]], accuracy: dict[str, Any]) -> dict[str, Any]:
    """What ``report`` reads of a study of taxa; returns its keyword arguments."""
    given = write_inputs(root, labels=False)
    params = OmegaConf.load(given["params"])
    params.update({"labels": ["taxon"]})
    params.records.kind = "trays"
    OmegaConf.save(params, given["params"])
    split = {"crops": 10, "labelled_at": {"family": 2, "order": 7, "class": 1}, "with_low_confidence": 4}
    made = {"rows": {"in": 15, "out": 12, "dropped": {"no annotated animal": 3}}, "splits": {"train": split}}
    write_json(given["metrics"] / "dataset.json", {**made, "classes": 5, "specimens": {"in": 3, "out": 2}})
    write_json(given["metrics"] / "classifier.json", {"train_crops": 10})
    samples = {"samples": 6, "with_barcodes": 5, "restricted": 3}
    judged = {"split": "test", "crops": 8, "photographs": 2, "temperature": 1.5, "samples": samples, "of_no_class": 3}
    write_json(given["metrics"] / "evaluation.json", {**judged, "accuracy": accuracy})
    columns = [
        "sample",
        "trained_on",
        "validated_on",
        "annotated",
        "rank",
        "taxon",
        "detections",
        "animals",
        "low",
        "high",
    ]
    pd.DataFrame(abundance, columns=columns).to_csv(given["plots"] / "abundance.csv", index=False)
    CLASSES.to_csv(given["plots"] / "classes.csv", index=False)
    pd.DataFrame(FOUND).to_csv(given["plots"] / "found.csv", index=False)
    return given


def section(given: dict[str, Any]) -> str:
    """The section's text; tags are spaces."""
    report(**given)
    page = given["out"].read_text()
    start = page.index('<section id="taxa">')
    text = re.sub(r"<[^>]+>", " ", page[start : page.index("</section>", start)])
    return " ".join(unescape(text).split())


def line(
    sample: str,
    taxon: str | None = "Diptera",
    *,
    trained_on: int = 0,
    validated_on: int = 0,
    annotated: int | None = None,
    rank: str | None = "order",
) -> dict[str, Any]:
    counts = {"detections": 1200, "animals": 1500, "low": 1300.5, "high": 1800}
    return {"sample": sample, "trained_on": trained_on, "rank": rank, "taxon": taxon, **counts} | {
        "validated_on": validated_on,
        "annotated": annotated,
    }


def test_a_section_without_any_crop_judged_or_counted(tmp_path: Path) -> None:
    text = section(write_taxa(tmp_path, [], {}))
    assert "validation, small 4 75 % 5 20 %" in text
    assert "test, small 0 – 0 –" in text  # of nothing no share
    assert text.endswith("Families and classes are in plots/abundance.csv.")


def test_accuracies_and_abundances(tmp_path: Path) -> None:
    shares = {"all taxa": {"value": 0.5, "low": 0.25, "high": 0.75}}
    shares |= {"barcoded taxa": {"value": 0.75, "low": 0.5, "high": 1.0}}
    shares |= {"difference": {"value": 0.25, "low": -0.125, "high": 0.5}}
    shares |= {"most common in training": {"value": 0.625, "low": 0.5, "high": 0.75}}
    shares |= {"gain over the most common": {"value": 0.125, "low": 0.0, "high": 0.25}}
    for way, mean in (("barcoded taxa", 0.4), ("most common in training", 0.2)):
        shares[way]["mean_over_taxa"] = mean
    lines = [line("one", trained_on=1), line(HOSTILE), line("one", "Insecta", rank="class")]
    lines.append(line("empty") | {"rank": None, "taxon": None, "detections": 0, "animals": 0, "low": 0, "high": 0})
    given = write_taxa(tmp_path, lines, {"order": {"crops": 36, "photographs": 2, "most_common": "Diptera", **shares}})
    text = section(given)
    assert "order 36 50 % (25–75 %) 75 % (50–100 %) +25.0 (-12.5 to +50.0) points" in text
    assert "points Diptera: 62 % (50–75 %) +12.5 (+0.0 to +25.0) points 40 % and 20 %" in text
    assert "Diptera 48 30 of 30 30 of 30 – Araneae 8 1 of 4 0 of 4 Diptera (3) Coleoptera 3 – – –" in text
    assert "2 more held-out crops are of orders that are no class" in text
    assert "one (trained on) Diptera 1,200 1,500 (1,300 to 1,800) –" in text
    assert f"{HOSTILE} Diptera" in text and HOSTILE not in given["out"].read_text()
    assert "of 3 crops no taxon at any rank is a class" in text
    assert "empty nothing detected 0 0 (0 to 0)" in text
    assert "Insecta" not in text  # classes stand in the table alone
    assert "10 crops of 5 labels (2 at family, 7 at order, 1 at class); 4 of them" in text
    assert "Of 6 samples 5 have a list of barcoded taxa, which leaves out some class for 3." in text
    head = "names the right order for 75 % (50–100 %) of the held-out crops"
    beside = "; always naming Diptera, the most common in training, would for 62 %, so that no skill is shown."
    assert head + beside in " ".join(given["out"].read_text().split())


def test_a_rank_without_a_class_has_no_most_common_taxon(tmp_path: Path) -> None:
    share = {"value": 0.0, "low": 0.0, "high": 0.0, "mean_over_taxa": 0.0}
    order = dict.fromkeys(("all taxa", "barcoded taxa", "difference"), share)
    given = write_taxa(tmp_path, [], {"order": {"crops": 2, "photographs": 1, "most_common": None, **order}})
    assert re.search(r"\+0\.0 \(\+0\.0 to \+0\.0\) points – – 0(\.0)? % and –", section(given))
    page = " ".join(given["out"].read_text().split())
    assert re.search(r"names the right order for [^;]* of the held-out crops\.", page)
    assert "always naming" not in page and "always None" not in page


def test_abundances_beside_what_was_annotated(tmp_path: Path) -> None:
    lines = [
        line("one", None, rank=None, annotated=1900),
        line("one", annotated=1400),
        line("one", "Araneae", annotated=3),
    ]
    lines[2]["detections"] = 0
    lines += [line("two", validated_on=1, annotated=1500), line("samples of test", annotated=1400)]
    text = section(write_taxa(tmp_path, lines, {}))
    assert "one all animals 1,200 1,500 (1,300 to 1,800) 1,900" in text
    assert "one Araneae none 1,500 (1,300 to 1,800) 3" in text
    assert "two (validation) Diptera 1,200" in text
    assert text.index("samples of test Diptera") < text.index("one all animals")
    # of the two of the one sample that is of test, Araneae lie far below; sums are of the same animals
    assert "Of 2 intervals of orders on test 1 hold the annotated number." in text
    assert "Few animals of validation tell how many are found (small 3 of 4)" in text


def test_the_thresholds_of_abundances_and_of_counts_are_told(tmp_path: Path) -> None:
    """0.3 for crops, and 0.35 at the best F1."""
    given = write_taxa(tmp_path, [], {})
    told = "Detections are those with a crop, from a confidence of 0.3 up (crops.confidence)"
    assert f"{told}. Animals are" in section(given)
    path = given["metrics"] / "detection_metrics.json"
    write_json(path, {**json.loads(path.read_text()), "masks": mask_metrics()})
    text = section(given)
    assert f"{told}; the counts in the section on masks are from 0.35 up, the best F1 on validation. Animals" in text
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(given["params"]), {"crops": {"confidence": 0.35}}), given["params"])
    assert "from a confidence of 0.35 up (crops.confidence). Animals" in section(given)


def test_a_long_table_says_how_much_more_there_is(tmp_path: Path) -> None:
    text = section(write_taxa(tmp_path, [line(f"s{n}") for n in range(MOST_LINES + 2)], {}))
    assert f"s{MOST_LINES - 1} Diptera" in text and f"s{MOST_LINES} Diptera" not in text
    assert "2 more lines, and families and classes, are in plots/abundance.csv." in text


@pytest.mark.parametrize("labels", [True, False])
def test_other_studies_have_no_such_section(tmp_path: Path, labels: bool) -> None:
    given = write_inputs(tmp_path, labels=labels)
    report(**given)
    assert 'id="taxa"' not in given["out"].read_text()
