import hashlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from photo_shards import RECORD, encoded, write_detections, write_images
from PIL import Image

from instar.crops import crops
from instar.errors import InputError
from instar.tables import CROPS, read_table

OPTIONS: dict[str, Any] = {"confidence": 0.5, "margin_percent": 0.0, "max_px": 100, "jpeg_quality": 95, "workers": 1}
COLOURS = np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [200, 200, 30]]], np.uint8)


def cut(folder: Path, photographs: dict[str, Any], size: tuple[int, int], found: Any, **options: Any) -> list[Any]:
    """Run the stage over a hand-made shard; the rows, each with its crop as ``picture``."""
    write_images(folder, "s0", photographs, size)
    write_detections(folder / "found.parquet", found)
    paths = [folder / name for name in ("s0.parquet", "s0.tar", "found.parquet", "crops.parquet", "crops.tar")]
    crops(*paths, **{**OPTIONS, **options})
    tar = (folder / "crops.tar").read_bytes()
    rows = read_table(folder / "crops.parquet", CROPS).to_pylist()
    for row in rows:
        data = tar[row["offset"] : row["offset"] + row["size"]] if row["offset"] is not None else b""
        row["picture"] = Image.open(io.BytesIO(data)) if data else None
    return rows


def corners() -> np.ndarray:
    """60 pixels wide, 40 high: red and green above, blue and yellow below."""
    return np.repeat(np.repeat(COLOURS, 20, axis=0), 30, axis=1)


def stored_for(orientation: int) -> bytes:
    """``corners`` as a camera stores it that was held so; a viewer that knows EXIF shows the same picture for all."""
    transposes = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = Image.fromarray(corners())
    image = image.transpose(transposes[orientation]) if orientation in transposes else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "a camera"
    return encoded(np.asarray(image), "JPEG", quality=95, subsampling=0, exif=exif.tobytes())


def test_masks_are_not_read(tmp_path: Path) -> None:
    write_images(tmp_path, "s0", {"a-1": stored_for(1)}, (60, 40))
    write_detections(tmp_path / "found.parquet", {"a-1": [(0, 0, 30, 20, 0.9)]})
    boxes = pq.read_table(tmp_path / "found.parquet").drop_columns(["mask"])
    pq.write_table(boxes, tmp_path / "found.parquet")
    paths = [tmp_path / name for name in ("s0.parquet", "s0.tar", "found.parquet", "crops.parquet", "crops.tar")]
    crops(*paths, **OPTIONS)
    assert read_table(tmp_path / "crops.parquet", CROPS)["key"].to_pylist() == ["a-1-000"]


def test_crops_of_nothing(tmp_path: Path) -> None:
    assert cut(tmp_path, {}, (1, 1), {}) == []
    assert (tmp_path / "crops.tar").stat().st_size > 0  # the end of a tar


@pytest.mark.parametrize("orientation", range(1, 9))
def test_crops_are_upright_whatever_the_orientation(tmp_path: Path, orientation: int) -> None:
    boxes = [
        (0, 0, 30, 20, 0.9),
        (30, 0, 60, 20, 0.8),
        (0, 20, 30, 40, 0.7),
        (30, 20, 60, 40, 0.6),
        (0, 0, 60, 40, 0.5),
    ]
    rows = cut(tmp_path, {"a-1": stored_for(orientation)}, (60, 40), {"a-1": boxes})
    for row, colour in zip(rows, COLOURS.reshape(-1, 3), strict=False):
        assert row["picture"].size == (30, 20)
        assert np.abs(np.asarray(row["picture"])[3:-3, 3:-3].astype(int) - colour).max() < 12
    whole = rows[4]["picture"]
    assert np.abs(np.asarray(whole).astype(int) - corners())[[3, 3, -3, -3], [3, -3, 3, -3]].max() < 12
    assert not whole.getexif()
    assert "icc_profile" not in whole.info


def test_crops_keep_every_row_and_its_ancestry(tmp_path: Path) -> None:
    photographs: dict[str, Any] = {"a-1": stored_for(1), "a-2": stored_for(1), "a-3": "not found", "a-4": b"damaged"}
    found = {"a-1": [(0, 0, 30, 20, 0.9), (30, 0, 60, 20, 0.49)], "a-2": "no animal found", "a-4": [(0, 0, 9, 9, 0.9)]}
    rows = cut(tmp_path, photographs, (60, 40), found)
    assert [(row["photo_key"], row["key"], row["reason"]) for row in rows] == [
        ("a-1", "a-1-000", None),
        ("a-1", "a-1-001", "below confidence"),
        ("a-2", None, "no animal found"),
        ("a-4", "a-4-000", "not an image"),
    ]
    for row in rows:
        kept = ["source", "observation_id", "observer_id", "taxon_id", "latitude", "longitude", "basis", "licence"]
        kept += ["rights_holder", "creator", "reference"]
        assert {name: row[name] for name in kept} == {name: RECORD[name] for name in kept}
        assert (row["photo_id"], row["shard"]) == (row["photo_key"][2:], "s0")
        assert (row["sha256"] is None) == (row["offset"] is None) == (row["reason"] is not None)
        assert (row["width"], row["height"]) == ((30, 20) if row["reason"] is None else (None, None))
        file = photographs[row["photo_key"]]
        assert row["photo_sha256"] == hashlib.sha256(file).hexdigest()
        assert row["photo_phash"] == 2**64 - 1 - len(file)
    assert rows[0]["detector"] == "by hand"


def test_crops_have_a_margin_that_ends_at_the_border(tmp_path: Path) -> None:
    found = {"a-1": [(20, 10, 40, 20, 0.9), (0, 20, 60, 40, 0.8)]}
    rows = cut(tmp_path, {"a-1": stored_for(1)}, (60, 40), found, margin_percent=10.0)
    assert [(row["width"], row["height"]) for row in rows] == [(24, 12), (60, 22)]
    assert [(row["box_width"], row["box_height"]) for row in rows] == [(20, 10), (60, 20)]  # without the margin


def test_crops_are_shrunk_and_never_enlarged(tmp_path: Path) -> None:
    found = {"a-1": [(0, 0, 60, 40, 0.9), (0, 0, 30, 1, 0.8), (3, 3, 4, 40, 0.7), (0, 0, 16, 16, 0.6)]}
    rows = cut(tmp_path, {"a-1": stored_for(1)}, (60, 40), found, max_px=16)
    assert [row["picture"].size for row in rows] == [(16, 11), (16, 1), (1, 16), (16, 16)]
    assert [(row["width"], row["height"]) for row in rows] == [row["picture"].size for row in rows]


def test_crops_give_equal_bytes_again(tmp_path: Path) -> None:
    for name in ("first", "second"):
        cut(tmp_path / name, {"a-1": stored_for(6)}, (60, 40), {"a-1": [(0, 0, 30, 20, 0.9)]})
    for name in ("crops.parquet", "crops.tar"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.parametrize("workers", [2, 5])
def test_crops_do_not_depend_on_the_workers(tmp_path: Path, workers: int) -> None:
    rng = np.random.default_rng(0)
    photographs: dict[str, Any] = {
        f"a-{n:02d}": encoded(rng.integers(0, 255, (40, 60, 3), np.uint8)) for n in range(20)
    }
    photographs["a-07"] = b"damaged"
    found = {key: [(0, 0, 30, 20, 0.9), (5, 5, 50, 40, 0.8)][: 1 + n % 2] for n, key in enumerate(photographs)}
    for name, count in (("one", 1), ("more", workers)):
        rows = cut(tmp_path / name, photographs, (60, 40), found, workers=count)
    assert [row["reason"] for row in rows].count(None) == 28  # 30 boxes, two of them on the damaged photograph
    for name in ("crops.parquet", "crops.tar"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "more" / name).read_bytes()


#: Prints the peak of its memory in MB after cropping a shard. (ru_maxrss would count the parent's.)
PEAK = """
import re, sys
from pathlib import Path
from instar.crops import crops
crops(*map(Path, sys.argv[2:]), confidence=0.5, margin_percent=0, max_px=100, jpeg_quality=90, workers=int(sys.argv[1]))
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1e3)
"""


def test_crops_hold_one_photograph_for_each_worker(tmp_path: Path) -> None:
    """45 megapixels take 315 MB while they are decoded: two of twelve, and 200 MB for the libraries."""
    keys = [f"a-{n:02d}" for n in range(12)]
    tray = encoded(np.zeros((5464, 8192, 3), np.uint8), "JPEG")
    write_images(tmp_path, "s0", dict.fromkeys(keys, tray), (8192, 5464))
    write_detections(tmp_path / "found.parquet", {key: [(0, 0, 90, 90, 0.9)] for key in keys})
    paths = [tmp_path / name for name in ("s0.parquet", "s0.tar", "found.parquet", "crops.parquet", "crops.tar")]
    done = subprocess.run([sys.executable, "-c", PEAK, "2", *map(str, paths)], check=True, capture_output=True)
    assert float(done.stdout) < 2 * 315 + 200


def test_crops_refuse_detections_of_other_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a-9"):
        cut(tmp_path, {"a-1": stored_for(1)}, (60, 40), {"a-9": [(0, 0, 30, 20, 0.9)]})
    with pytest.raises(InputError, match="a-2"):
        cut(tmp_path, {"a-2": "not found"}, (60, 40), {"a-2": [(0, 0, 30, 20, 0.9)]})
    assert not (tmp_path / "crops.parquet").exists()
