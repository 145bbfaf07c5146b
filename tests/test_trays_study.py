"""Drawn trays from records to report, with two families of segmenting detectors."""

import json
import subprocess
from pathlib import Path

import pytest
from project import ROOT, Project

from instar.study import compose
from instar.tables import DETECTIONS, read_shards

TINY = [
    "records.source=tests/world/trays.yaml",
    "shards=[s00]",
    "detector.image_px=96",
    "detector.tile_px=96",
    "detector.epochs=1",
    "detector.workers=0",
    "detections.tile_px=96",
    # after one epoch hardly anything is surer
    "detections.floor=0.001",
    "detections.max_boxes=100",
    "crops.confidence=0.001",
    # crops of an animal need a detector that has learned something
    "labels=[]",
    "evaluation.bootstrap=100",
]
#: Mask R-CNN with four convolutions and narrow heads.
MASK_RCNN = ["detector=maskrcnn", "detector.model=maskrcnn_test", "detector.learning_rate=0.005"]
MASK_RCNN += ["detector.options.anchor_px=8", "detector.options.detections=100", "detector.options.proposals=200"]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("trays") / "project", TINY, "trays_drawn")


@pytest.mark.xdist_group("trays_study")
@pytest.mark.parametrize("detector", [["detector=yolo11n_seg"], MASK_RCNN], ids=["yolo11n-seg", "Mask R-CNN"])
def test_from_records_to_report(project: Project, detector: list[str]) -> None:
    (project.root / "params.yaml").write_text(compose("trays_drawn", [*detector, *TINY]))
    project.run("snakemake", "all")
    assert project.due() == []
    data = project.root / "data/trays_drawn"
    records, learned, judged = (
        json.loads((data / f"metrics/{name}.json").read_text()) for name in ("records", "detector", "detection_metrics")
    )
    outlines = records["trays"]["outlines"]
    assert outlines["in"] == outlines["out"] + outlines["joined"] + sum(outlines["dropped"].values())
    # every annotated photograph is learned from, chooses the epoch or is judged
    photographs = records["annotations"]["photographs"]
    assert learned["photographs"] == {split: photographs[split] for split in ("train", "validation")}
    assert learned["tiles"]["train"]["tiles"] > photographs["train"]
    assert judged["test"]["photographs"] == photographs["test"]
    assert (
        judged["masks"]["best_f1"]["test_true_positives"] + judged["masks"]["best_f1"]["test_false_negatives"]
        == (records["annotations"]["boxes"]["test"])
    )
    rows = read_shards(data / "detections", ["s00"], DETECTIONS).to_pylist()
    found = [row for row in rows if row["reason"] is None]
    assert found and all(row["mask"] and row["area"] > 0 and row["cut"] is not None for row in found)
    page = (data / "report.html").read_text()
    for told in ("Masks on trays", "Mask DINO", "Pixel areas", "near seams", "Areas of masks", "sorted by hand"):
        assert told in page


@pytest.mark.xdist_group("trays_study")
def test_a_detector_beside_it_in_the_report(project: Project) -> None:
    told = project.run("instar", "compare", "detectors", "watershed")
    assert "| watershed | here |" in told and "| Mask DINO | published |" in told
    data = project.root / "data/trays_drawn"
    assert "base64" not in (data / "plots/compared/detectors.json").read_text()
    pictures = "data/trays_drawn/comparison/watershed/patches.json"
    assert (project.root / pictures).is_file()
    assert subprocess.run(["git", "check-ignore", "-q", "--no-index", pictures], cwd=ROOT).returncode == 0
    assert project.due() == ["all", "report"]
    project.run("snakemake", "all")
    page = (data / "report.html").read_text()
    assert "watershed (instar compare; trained: no)" in page and "<h3>watershed, from instar compare</h3>" in page
    assert "patches of watershed:" not in page


@pytest.mark.xdist_group("trays_study")
def test_a_tray_to_zoom_into(project: Project) -> None:
    project.run("instar", "tray", "--out", "tray.html")
    assert "<canvas" in (project.root / "tray.html").read_text()


def test_the_published_partition_and_the_drawn_study_compose(tmp_path: Path) -> None:
    assert "partition: workflow/conf/trays/partition.csv" in compose("trays", [])
    assert "tile_px: 128" in compose("trays_drawn", [])
