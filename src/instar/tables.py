"""The parquet tables that stages hand to each other: their columns, and reading and writing them checked."""

import csv
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from instar.errors import InputError
from instar.files import replacing

#: Of the tables that are written as a stream.
ROW_GROUP_ROWS = 1 << 16
#: Rows in a block of ``read_batches``.
BATCH_ROWS = 1 << 17

TIME = pa.timestamp("s", tz="UTC")

#: One row per photograph that the filters of ``records`` let through.
RECORDS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # "<source>-<photo_id>", unique, safe as a file name
        pa.field("source", pa.string(), nullable=False),  # inaturalist, gbif or folder
        pa.field("photo_id", pa.string(), nullable=False),
        pa.field("observation_id", pa.string(), nullable=False),
        pa.field("observer_id", pa.string()),
        pa.field("url", pa.string(), nullable=False),  # https://… or a path below the study's source folder
        pa.field("sha256", pa.string()),  # of the photograph, where the source tells it
        pa.field("taxon_id", pa.string()),  # into taxonomy; null where a study has no labels
        pa.field("latitude", pa.float64()),  # WGS 84 degrees
        pa.field("longitude", pa.float64()),
        pa.field("observed_at", TIME),
        pa.field("basis", pa.string(), nullable=False),  # field or specimen
        pa.field("licence", pa.string(), nullable=False),  # one of licences.LICENCES
        pa.field("rights_holder", pa.string()),
        pa.field("creator", pa.string()),  # who took the photograph, where the source tells it
        pa.field("reference", pa.string()),  # the page of the photograph or of its record
        # x_min, y_min, x_max, y_max in pixels, max exclusive: the part that is searched; null for the whole photograph
        pa.field("region", pa.list_(pa.int32())),
        pa.field("shard", pa.string(), nullable=False),
    ]
)

#: One row per photograph that ``records`` read and did not take.
RECORDS_DROPPED = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("photo_id", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
    ]
)

#: One row per taxon that a record carries, and its ancestors.
TAXONOMY = pa.schema(
    [
        pa.field("taxon_id", pa.string(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("rank", pa.string(), nullable=False),  # species, genus, family, …
        pa.field("parent_id", pa.string()),
        pa.field("species", pa.string()),  # names of the ancestors or of itself; null above that rank
        pa.field("genus", pa.string()),
        pa.field("family", pa.string()),
    ]
)

#: barcodes.parquet: one row per taxon that DNA barcoding found in a sample.
BARCODES = pa.schema(
    [
        pa.field("observation_id", pa.string(), nullable=False),  # of the sample's photographs
        pa.field("sample", pa.string(), nullable=False),
        pa.field("taxon_id", pa.string(), nullable=False),  # into taxonomy, at the lowest rank that is named
        pa.field("reads", pa.int64()),  # of its sequences; null where the source does not tell
    ]
)

#: individuals.parquet: one row per photograph of a study of individual animals, in the order of the source's table.
INDIVIDUALS = pa.schema(
    [
        pa.field("photo_key", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),  # as the source has it, unique
        pa.field(
            "identity", pa.string()
        ),  # the only one of this name, see splits.name_of; null for a query, whose individual is not known
        pa.field("part", pa.string()),  # the source's own: database or query, train or test; null where it tells none
        pa.field("dataset", pa.string(), nullable=False),  # that figures and thresholds are told for
        pa.field("species", pa.string()),
        pa.field("orientation", pa.string()),  # left, right, top, …; null where the source tells none
        pa.field("date", TIME),  # null where the source tells none that can be read
        pa.field(
            "encounter", pa.string(), nullable=False
        ),  # one identity on one day; a photograph alone without a date
        pa.field("row", pa.int64(), nullable=False),  # place in the source's table, from 0
        pa.field("submission_row", pa.int64()),  # place in sample_submission.csv; null where it does not ask
        pa.field("submission_rows", pa.int64()),  # that sample_submission.csv has; null without it
    ]
)

#: The columns of specimens.csv: one row per photograph of a sample; specimens sorted by hand, empty where not told.
SPECIMENS = ("photo_key", "sample", "specimens", "specimens_insecta_arachnida")

#: images/<shard>.parquet: every record of the shard, and what became of its photograph.
IMAGES = pa.schema(
    [
        *RECORDS.remove(RECORDS.get_field_index("sha256")),
        pa.field("reason", pa.string()),  # null where the photograph lies in the tar
        pa.field("retryable", pa.bool_()),  # whether a later run may get it; null where there is no reason
        pa.field("offset", pa.int64()),  # bytes into images/<shard>.tar
        pa.field("size", pa.int64()),  # bytes
        pa.field("sha256", pa.string()),
        pa.field("phash", pa.uint64()),  # perceptual hash of the upright photograph, see phash.py
        pa.field("width", pa.int32()),  # pixels, upright
        pa.field("height", pa.int32()),
    ]
)

#: detections/<shard>.parquet: one row per box, or one with a reason for a photograph without any.
DETECTIONS = pa.schema(
    [
        pa.field("photo_key", pa.string(), nullable=False),
        pa.field("key", pa.string()),  # "<photo_key>-<n>", by falling score; null where there is a reason
        pa.field("reason", pa.string()),
        pa.field("x_min", pa.float32()),  # pixels of the upright photograph, max exclusive
        pa.field("y_min", pa.float32()),
        pa.field("x_max", pa.float32()),
        pa.field("y_max", pa.float32()),
        pa.field("score", pa.float32()),
        pa.field("detector", pa.string(), nullable=False),  # sha256 of the weights, or the detector's name
        pa.field("mask", pa.binary()),  # COCO's compressed RLE counts over the whole photograph; null for a mere box
        pa.field("area", pa.int32()),  # of the mask, pixels
        pa.field("cut", pa.bool_()),  # whether every tile that found it cut it off; null where there were no tiles
    ]
)

#: The same without the masks, which may be larger than all the rest.
BOXES = DETECTIONS.remove(DETECTIONS.get_field_index("mask"))

_ANCESTRY = ["source", "photo_id", "observation_id", "observer_id", "taxon_id", "latitude", "longitude", "observed_at"]
_ANCESTRY += ["basis", "licence", "rights_holder", "creator", "reference", "shard"]

#: crops/<shard>.parquet: one row per box of detections, with the ancestry of the photograph.
CROPS = pa.schema(
    [
        *BOXES,
        *(RECORDS.field(name) for name in _ANCESTRY),
        pa.field("photo_sha256", pa.string()),  # of the photograph's file
        pa.field("photo_phash", pa.uint64()),  # of the photograph
        pa.field("key_hash", pa.uint64()),  # splits.id_hash of the ids, so that a split of millions reads numbers only
        pa.field("observation_hash", pa.uint64()),
        pa.field("observer_hash", pa.uint64()),
        pa.field("offset", pa.int64()),  # bytes into crops/<shard>.tar
        pa.field("size", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("width", pa.int32()),  # of the stored crop, pixels
        pa.field("height", pa.int32()),
        pa.field("box_width", pa.float32()),  # of the detected box without its margin, pixels of the photograph
        pa.field("box_height", pa.float32()),
    ]
)

#: dataset.parquet: every crop, with its label and split or the reason it was dropped.
DATASET = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),  # of the crop
        pa.field("photo_key", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("observation_id", pa.string(), nullable=False),
        pa.field("observer_id", pa.string()),
        pa.field("label", pa.string()),  # a species' name, or a genus's for genus-level crops
        pa.field("rank", pa.string()),  # of the label
        pa.field("species", pa.string()),
        pa.field("genus", pa.string()),
        pa.field("basis", pa.string(), nullable=False),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
        pa.field("split", pa.string()),  # train or validation; null where there is a reason
        pa.field("reason", pa.string()),
    ]
)

#: dataset.parquet of a study of taxa: every crop, of whichever split, and photographs of specimens. ``label`` is the
#: lowest class, at ranks of ``lineages.TAXON_RANKS``, that its animal is sure to be of; species and genus are null.
TAXA_DATASET = pa.schema(
    [
        *DATASET,
        pa.field("family", pa.string()),  # that the animal is sure to be of, also where it is no class
        pa.field("order", pa.string()),
        pa.field("class", pa.string()),
        # classes that it may be of besides, each with its lineage: names at lineages.TAXON_RANKS, null below its rank
        pa.field("low", pa.list_(pa.list_(pa.string())), nullable=False),
        pa.field("low_share", pa.float32(), nullable=False),  # of the target, for all of these together
        pa.field("area", pa.int32(), nullable=False),  # of the detection, pixels of the photograph
        pa.field("iou", pa.float32()),  # with its animal; null where there is none
    ]
)

#: dataset.parquet of a study of individuals: ``label`` is the identity, ``rank`` is "individual", ``observation_id``
#: the encounter; species and genus are null. A held-out individual that nothing trains from is new to the classifier.
IDENTITY_DATASET = pa.schema(
    [
        *DATASET,  # split: train, validation, test, or query, whose label is null
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("orientation", pa.string()),
        pa.field("observed_at", TIME),
        pa.field(
            "is_new", pa.bool_()
        ),  # whether no photograph of it trains; null for a query or where there is a reason
        pa.field("submission_row", pa.int64()),
    ]
)

#: The answer for an individual that is none of the known ones, as AnimalCLEF25 names it.
NEW_INDIVIDUAL = "new_individual"

#: predictions.parquet of a study of individuals: one row per crop of validation, test and query.
IDENTITY_PREDICTIONS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("photo_key", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("dataset", pa.string(), nullable=False),
        pa.field("observation_id", pa.string(), nullable=False),  # the encounter
        pa.field("split", pa.string(), nullable=False),
        pa.field("label", pa.string()),  # null for a query
        pa.field("is_new", pa.bool_()),
        pa.field("answer", pa.string(), nullable=False),  # an identity or NEW_INDIVIDUAL
        pa.field("match", pa.string()),  # key of the most similar crop of the best identity; null without a candidate
        pa.field("score", pa.float32(), nullable=False),  # of the best identity, by the way that answers
        pa.field("top", pa.list_(pa.string()), nullable=False),  # identities by falling score, at most 5
        pa.field("top_score", pa.list_(pa.float32()), nullable=False),
    ]
)

#: Where the crops of specimens lie, as a shard below the folder of crops: stages that read crops then find them, too.
SPECIMENS_SHARD = "../specimen_crops/specimens"

#: predictions.parquet: one row per judged crop.
PREDICTIONS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("genus", pa.string(), nullable=False),
        pa.field("top", pa.list_(pa.string()), nullable=False),  # species by falling probability, at most 5
        pa.field("probability", pa.list_(pa.float32()), nullable=False),
        pa.field("top_genus", pa.list_(pa.string()), nullable=False),
    ]
)


#: predictions.parquet of a study of taxa: one row per crop of a photograph, restricted to the taxa of its sample.
TAXA_PREDICTIONS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("photo_key", pa.string(), nullable=False),
        pa.field("observation_id", pa.string(), nullable=False),  # the sample
        pa.field("split", pa.string()),  # null where the crop is not of the data set
        pa.field("label", pa.string()),
        *(
            field
            for rank in ("family", "order", "class")
            for field in (
                pa.field(rank, pa.string()),  # the most probable within the rank above; null for none
                pa.field(f"{rank}_probability", pa.float32(), nullable=False),
            )
        ),
        pa.field("restricted", pa.bool_(), nullable=False),  # whether barcodes of its sample left something out
    ]
)

#: photographs.parquet: one row per judged photograph of a held-out observation.
PHOTOGRAPHS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("genus", pa.string()),
        pa.field("top", pa.list_(pa.string()), nullable=False),  # as in predictions; empty where nothing was found
        pa.field("probability", pa.list_(pa.float32()), nullable=False),  # mean over the crops
        pa.field("top_genus", pa.list_(pa.string()), nullable=False),
        pa.field("crops", pa.int64(), nullable=False),  # that were summed
    ]
)


#: ablations/<variant>/<seed>.parquet: one row per judged crop and kind of place, and per judged photograph.
ABLATION = pa.schema(
    [
        pa.field("unit", pa.string(), nullable=False),  # crop or photograph
        pa.field("place", pa.string(), nullable=False),  # true, none or wrong: which one the classifier was given
        pa.field("key", pa.string(), nullable=False),  # of the crop or the photograph
        pa.field("observation_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("top", pa.list_(pa.string()), nullable=False),  # species by falling probability, at most 5
        pa.field("probability", pa.list_(pa.float32()), nullable=False),
        pa.field("genus", pa.string()),  # the most probable; null where nothing was found
    ]
)


def write_table(path: Path, rows: pa.Table | Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write rows as parquet with exactly the columns of ``schema``, in one rename.

    Raises:
        ValueError: if a column that may not be null holds one (pyarrow itself does not look).
    """
    table = rows.select(schema.names).cast(schema) if isinstance(rows, pa.Table) else _table(rows, schema)
    for field, column in zip(schema, table.columns, strict=True):
        if not field.nullable and column.null_count:
            raise ValueError(f"{path}: column {field.name} holds {column.null_count} nulls and may hold none")
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_stream(path: Path, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
    """Write tables that come one after the other as one parquet table, in one rename and in row groups of one size.

    Raises:
        ValueError: if a column that may not be null holds one.
    """
    held, rows = [schema.empty_table()], 0
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for table in tables:
            # the cast refuses nulls where there may be none
            held.append(table.select(schema.names).cast(schema))
            rows += table.num_rows
            if rows >= ROW_GROUP_ROWS:
                whole = pa.concat_tables(held)
                full = rows - rows % ROW_GROUP_ROWS
                writer.write_table(whole.slice(0, full), row_group_size=ROW_GROUP_ROWS)
                held, rows = [whole.slice(full)], rows - full
        if rows:
            writer.write_table(pa.concat_tables(held), row_group_size=ROW_GROUP_ROWS)


def _table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """Read a parquet table that must have the columns of ``schema``.

    Raises:
        InputError: if the file is missing or damaged, or lacks a column.
    """
    with _readable(path):
        return _opened(path, schema).read(columns=schema.names).cast(schema)


def read_batches(
    path: Path, schema: pa.Schema, columns: list[str], *, dictionaries: list[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Some columns of a table of ``schema``, a block of rows at a time; raises as ``read_table`` does.

    Args:
        path: of the table.
        schema: that it must have.
        columns: to read.
        dictionaries: columns of few distinct strings, to be read as dictionaries.
    """
    # the callers read several tables at a time, on threads of their own
    with _readable(path):
        yield from _opened(path, schema, dictionaries).iter_batches(BATCH_ROWS, columns=columns, use_threads=False)


def row_count(path: Path, schema: pa.Schema) -> int:
    """Rows of a table of ``schema``, none of which is read; raises as ``read_table`` does."""
    return int(_opened(path, schema).metadata.num_rows)


def is_by_taxon(dataset: Path) -> bool:
    """Whether a table of ``DATASET`` is one of ``TAXA_DATASET``; raises as ``read_table`` does."""
    return set(TAXA_DATASET.names) <= set(_opened(dataset, DATASET).schema_arrow.names)


def is_by_individual(dataset: Path) -> bool:
    """Whether it is one of ``IDENTITY_DATASET``; raises likewise."""
    return set(IDENTITY_DATASET.names) <= set(_opened(dataset, DATASET).schema_arrow.names)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, NotImplementedError, OSError) as error:  # ArrowInvalid is a ValueError
        if isinstance(error, OSError) and error.errno:  # the disk's fault, not the file's; pyarrow's own has no number
            raise
        told = str(error).splitlines()[0]
        raise InputError(f"{path}: not a readable parquet table ({told}); delete it and run its stage again") from None


def _opened(path: Path, schema: pa.Schema, dictionaries: list[str] | None = None) -> pq.ParquetFile:
    if not path.is_file():
        raise InputError(f"{path}: no such table; run the stage that writes it")
    with _readable(path):
        file = pq.ParquetFile(path, read_dictionary=dictionaries)
    present = set(file.schema_arrow.names)
    missing = [name for name in schema.names if name not in present]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing; delete the table and run its stage again")
    return file


def read_shards(folder: Path, shards: list[str], schema: pa.Schema) -> pa.Table:
    """The tables ``<folder>/<shard>.parquet`` of the named shards as one; other files in the folder are not read."""
    return pa.concat_tables([read_table(folder / f"{shard}.parquet", schema) for shard in shards])


def csv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a small CSV that people write, with their lines: these columns, without spaces around the values.

    Raises:
        InputError: if the file is missing or not UTF-8, a column is missing, or a row has another number of fields.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for column in columns:
                if column not in (reader.fieldnames or ()):
                    raise InputError(
                        f"{path}: column {column} is missing among {', '.join(reader.fieldnames or ())}; "
                        f"it needs {', '.join(columns)}"
                    )
            for row in reader:
                if None in row or None in row.values():
                    raise InputError(f"{path}: line {reader.line_num}: not {len(reader.fieldnames or ())} fields")
                yield reader.line_num, {name: row[name].strip() for name in columns}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give one with the columns {', '.join(columns)}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a CSV file in UTF-8 ({error}); save it as one") from None
