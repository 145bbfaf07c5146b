"""The same patches of held-out photographs with each detector's right, wrong and missed masks drawn in."""

import base64
from dataclasses import asdict
from pathlib import Path

from instar.annotations import read_annotations, read_images
from instar.files import remove, replacing, sha256_of, write_json
from instar.report.patches import Shown, shown_patches
from instar.report.pictures import showable


def shown_of_presets(
    out: Path, study: Path, shards: list[str], confidences: dict[str, float]
) -> dict[str, list[Shown]]:
    """The patches of each preset that has some.

    The first preset chooses them, by the rule of ``report.overlays.chosen``; only photographs whose licence lets them
    be shown are taken.

    Args:
        out: folder of the comparison, with the detections of each preset below ``<preset>/detections``.
        study: folder of the study, with annotations.json and images.
        shards: names of the shards.
        confidences: of each preset the score below which detections do not count.
    """
    if not confidences:
        return {}
    annotated, _ = read_annotations(study / "annotations.json")
    images = read_images(study / "images", shards, annotated).to_pandas()
    images = showable(images[images["reason"].isna()])
    found: dict[str, list[Shown]] = {}
    for preset, confidence in confidences.items():
        detections = out / preset / "detections"
        first = next(iter(found.values()), None)
        shown = shown_patches(annotated, images, study / "images", detections, {}, confidence, first)
        found |= {preset: shown} if shown else {}
    return found


def write_patches(path: Path, shown: list[Shown]) -> str:
    """Write patches with their pictures for the report, see ``report.compared.read_patches``; returns the sha256."""
    write_json(path, [asdict(one) for one in shown])
    return sha256_of(path)


def write_overlays(out: Path, found: dict[str, list[Shown]]) -> str:
    """Write a JPEG file for each preset and patch below ``<out>/overlays``.

    Returns:
        Markdown with the pictures, a line for each preset; empty where there is none.
    """
    remove(out / "overlays")
    lines = [_line(out, preset, shown) for preset, shown in found.items()]
    if not lines:
        return ""
    first = next(iter(found.values()))
    told = "Right detections are green, wrong ones vermillion, missed animals blue; the first preset chose the patches."
    names = [f"{one.reason} ({one.patch.key}, x {one.patch.box[0]}, y {one.patch.box[1]})" for one in first]
    head = "| " + " | ".join(["preset", *names]) + " |\n|" + " --- |" * (len(names) + 1)
    return "\n".join([told, "", head, *lines]) + "\n"


def _line(out: Path, preset: str, shown: list[Shown]) -> str:
    cells = [preset]
    for one in shown:
        name = f"overlays/{preset}-{one.reason.replace(' ', '-')}.jpg"
        with replacing(out / name) as temporary:
            temporary.write_bytes(base64.b64decode(one.picture.uri.partition(",")[2]))
        patch = one.patch
        cells.append(f"![{patch.right} right, {patch.wrong} wrong, {patch.missed} missed]({name})")
    return "| " + " | ".join(cells) + " |"
