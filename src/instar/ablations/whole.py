"""The command ``instar whole_photographs``: what crops are compared with."""

import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from instar.ablations.run import judged_rows
from instar.classifier.labels import label_space
from instar.crops import crops as cut_out
from instar.detectors.whole_image import WholeImage
from instar.evaluation.photographs import OF_DETECTOR, HeldOut, held_out
from instar.files import replacing, write_json
from instar.splits import judged_split
from instar.tables import CROPS, DATASET, DETECTIONS, IMAGES, read_shards, read_table, write_table

NOT_JUDGED = "held out and not judged"
NO_CROP = "without a crop in a split"
TWO_LABELS = "crops of two labels"
TWO_SPLITS = "crops in two splits"
NOT_LEARNT = "of a taxon without a training photograph"
_LABEL = ["label", "rank", "species", "genus"]


def whole_photographs(
    images: Path,
    crops: Path,
    dataset: Path,
    taxonomy: Path,
    annotations: Path,
    out: Path,
    out_metrics: Path,
    *,
    seed: int,
    shards: list[str],
    photo_boxes: int,
    max_px: int,
    jpeg_quality: int,
    workers: int,
) -> None:
    """Make crops that are whole photographs, with the labels and splits that their crops have.

    Training photographs are those with a training crop. The judged ones are all of held-out observations, also those
    without a crop, of taxa that a training photograph is left of; those that trained the detector or chose its weights
    are neither, as in evaluation.

    Args:
        images: folder of ``<shard>.tar`` and ``<shard>.parquet`` with the photographs.
        crops: folder of ``<shard>.parquet`` with the crops.
        dataset: table of the crops' labels and splits.
        taxonomy: table of the photographs' taxa.
        annotations: COCO JSON with a split for each annotated photograph.
        out: folder to write: ``crops``, with the shards, and ``dataset.parquet``.
        out_metrics: gets what became of the photographs, as JSON.
        seed: of the draw of photographs without a crop.
        shards: names of the shards.
        photo_boxes: as for the crops' photographs; changes nothing here.
        max_px: longer side of a stored photograph.
        jpeg_quality: of these, 1 to 100.
        workers: threads that decode and encode.

    Raises:
        InputError: if a table is missing or damaged.
    """
    rows = read_table(dataset, DATASET).to_pandas()
    judged = judged_rows(rows)
    labels = label_space(rows[rows["split"] == "train"])
    observations = set(judged["observation_id"])
    given = held_out(
        crops, dataset, taxonomy, annotations, observations, labels, shards=shards, seed=seed, boxes=photo_boxes
    )
    split = judged_split(rows["split"])
    wanted, dropped = photograph_rows(rows, given, split=split)
    with replacing(out) as folder:
        (folder / "crops").mkdir(parents=True)
        for shard in shards:
            _store(images, folder / "crops", shard, wanted, max_px, jpeg_quality, workers)
        stored = read_shards(folder / "crops", shards, CROPS).to_pandas()
        stored = stored[stored["reason"].isna()].drop(columns="reason")
        table = stored.merge(wanted.reset_index(), on="photo_key", validate="one_to_one").assign(reason=None)
        table = table.sort_values("key")
        learnt = table["label"].isin(label_space(table[table["split"] == "train"]).names)
        left = {"unreadable": len(wanted) - len(table), NOT_LEARNT: int((~learnt).sum())}
        table = table[learnt]
        if not (table["split"] == split).any():
            print(f"whole_photographs: no whole photograph can be judged: {given.told}", file=sys.stderr)
            left[NOT_JUDGED] = int((table["split"] != "train").sum())
            table = table[table["split"] == "train"]
        write_table(folder / "dataset.parquet", pa.Table.from_pandas(table[DATASET.names], DATASET), DATASET)
    dropped = +(dropped + Counter(left))
    counts = {"in": len(given.keys | set(rows["photo_key"])), "out": len(table), "dropped": dict(dropped)}
    if counts["in"] != len(table) + dropped.total():
        raise RuntimeError(f"{out}: photographs do not add up: {counts}")
    print(f"{counts['in']} photographs, {counts['out']} whole ones, {dict(dropped)}", file=sys.stderr)
    write_json(out_metrics, {"rows": counts, **{str(k): int(n) for k, n in table["split"].value_counts().items()}})


def photograph_rows(rows: pd.DataFrame, given: HeldOut, *, split: str) -> tuple[pd.DataFrame, "Counter[str]"]:
    """The photographs to train on and to judge, and how many others there are by reason.

    Args:
        rows: the dataset.
        given: the photographs of held-out observations.
        split: what the judged ones are called.

    Returns:
        ``label``, ``rank``, ``species``, ``genus`` and ``split`` by ``photo_key``.
    """
    labels = given.labels
    places = labels.targets(given.photographs["label"])
    columns = {"label": labels.names, "rank": labels.ranks}
    found = {name: [values[place] for place in places] for name, values in columns.items()}
    for rank in ("species", "genus"):
        found[rank] = [labels.names[node] if node >= 0 else None for node in labels.ancestors(rank)[places]]
    judged = pd.DataFrame(found | {"split": split}, index=pd.Index(given.photographs["photo_key"], name="photo_key"))
    others = rows[~rows["photo_key"].isin(given.keys)]
    used = others[others["split"].notna()]
    photographs = used.groupby("photo_key")
    same_label, same_split = photographs["label"].nunique() == 1, photographs["split"].nunique() == 1
    dropped = Counter({reason: given.dropped.get(reason, 0) for reason in OF_DETECTOR.values()})
    dropped[NOT_JUDGED] = len(given.keys) - len(judged) - dropped.total()
    dropped[NO_CROP] = others["photo_key"].nunique() - len(same_label)
    dropped[TWO_LABELS] = int((~same_label).sum())
    dropped[TWO_SPLITS] = int((same_label & ~same_split).sum())
    first = used.drop_duplicates("photo_key").set_index("photo_key")[[*_LABEL, "split"]].astype(object)
    kept = first[(same_label & same_split).reindex(first.index)]
    return pd.concat([judged.astype(object), kept]), +dropped


def _store(
    images: Path, out: Path, shard: str, wanted: pd.DataFrame, max_px: int, jpeg_quality: int, workers: int
) -> None:
    """The wanted photographs of one shard, by the stage crops, each in a box that holds all of it."""
    table = read_table(images / f"{shard}.parquet", IMAGES)
    table = table.filter(pc.is_in(table["key"], value_set=pa.array(wanted.index, pa.string())))
    boxes = [
        {
            "photo_key": row["key"],
            "key": f"{row['key']}-0",
            "x_min": 0.0,
            "y_min": 0.0,
            "x_max": row["width"],
            "y_max": row["height"],
            "score": 1.0,
            "detector": WholeImage.name,
        }
        for row in table.select(["key", "width", "height"]).to_pylist()
    ]
    with TemporaryDirectory(dir=out) as scratch:
        detections = Path(scratch) / "detections.parquet"
        write_table(detections, boxes, DETECTIONS)
        cut_out(
            images / f"{shard}.parquet",
            images / f"{shard}.tar",
            detections,
            out / f"{shard}.parquet",
            out / f"{shard}.tar",
            confidence=0.0,
            margin_percent=0.0,
            max_px=max_px,
            jpeg_quality=jpeg_quality,
            workers=workers,
        )
