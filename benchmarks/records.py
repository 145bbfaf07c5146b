"""Selecting a taxon's photographs from iNaturalist's open data: ours beside a lean pandas, and DuckDB.

    python benchmarks/records.py [--small]

Draws tables in the real format (gzip, tab separated) and selects 1 % and 10 % of the photographs, then from ten times
as many. All three select by taxon with its descendants, grade and licence and write one row per photograph with its
observation's columns and its holder's name; ours is the whole stage, which also writes what it dropped with the
reasons, splits into shards, sorts and checks. Each runs in a process of its own, with two threads. It is asserted first
that all select the same photographs. Printed are CPU-seconds, wall seconds and the peak of the resident memory.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

LICENCES = ["CC0", "CC-BY", "CC-BY-NC", "CC-BY-SA", "CC-BY-NC-SA"]
ALLOWED = ["cc0", "cc-by", "cc-by-nc", "cc-by-sa"]
GRADES = ["research", "needs_id"]
PART = 200_000  # observations drawn at a time
PHOTOS_EACH = 2
SPECIES = 1000  # of each family
SHARES = {"Formicidae": 0.01, "Carabidae": 0.1, "Apidae": 0.89}
TABLES = {"photos", "observations", "taxa", "observers"}


class GzipTable:
    """A table that is written in parts: compressed, tab separated, no quotes."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = (folder / f"{name}.csv.gz").open("wb")
        self._packer = zlib.compressobj(1, wbits=31)
        self._started = False

    def add(self, columns: dict[str, pa.Array]) -> None:
        if not self._started:
            self._file.write(self._packer.compress("\t".join(columns).encode() + b"\n"))
            self._started = True
        sink = pa.BufferOutputStream()
        options = pyarrow.csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
        pyarrow.csv.write_csv(pa.table(columns), sink, options)
        self._file.write(self._packer.compress(sink.getvalue().to_pybytes()))

    def close(self) -> None:
        self._file.write(self._packer.flush())
        self._file.close()


def uuids(numbers: np.ndarray, salt: int) -> pa.Array:
    """Texts that look like random UUIDs, a different one for each number."""
    words = np.empty((len(numbers), 2), np.uint64)
    words[:, 0] = (numbers.astype(np.uint64) + np.uint64(salt << 40)) * np.uint64(0x9E3779B97F4A7C15)
    words[:, 1] = (words[:, 0] ^ (words[:, 0] >> np.uint64(29))) * np.uint64(0xD6E8FEB86659FD93)
    given = words.view(np.uint8).reshape(-1, 16)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)[np.stack([given >> 4, given & 15], axis=2).reshape(-1, 32)]
    texts = np.ascontiguousarray(np.insert(digits, [8, 12, 16, 20], ord("-"), axis=1))
    offsets = np.arange(0, texts.size + 1, 36, dtype=np.int32)
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(texts))


def draw(folder: Path, photos: int) -> None:
    """Tables of so many photographs, whose families have the shares."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    taxa = GzipTable(folder, "taxa")
    species = np.arange(SPECIES * len(SHARES))
    families = [str(10 + number) for number in range(len(SHARES))]
    ancestry = np.char.add("1/", np.repeat(families, SPECIES))
    count = 1 + len(families) + len(species)
    taxa.add(
        {
            "taxon_id": pa.array(["1", *families, *(100 + species).astype(str)]),
            "ancestry": pa.array(["", *["1"] * len(families), *ancestry]),
            "rank_level": pa.array(["10"] * count),
            "rank": pa.array(["kingdom", *["family"] * len(families), *["species"] * len(species)]),
            "name": pa.array(["Animalia", *SHARES, *np.char.add("Genus s", species.astype(str))]),
            "active": pa.array(["true"] * count),
        }
    )
    taxa.close()
    people = max(photos // 100, 10)
    observers = GzipTable(folder, "observers")
    number = np.arange(people)
    logins = pa.array(np.char.add("user", number.astype(str)))
    observers.add({"observer_id": pa.array(number), "login": logins, "name": pa.array(np.char.add("N ", logins))})
    observers.close()
    tables = {name: GzipTable(folder, name) for name in ("observations", "photos")}
    for start in range(0, photos // PHOTOS_EACH, PART):
        _draw_part(tables, rng, start, min(PART, photos // PHOTOS_EACH - start), people)
    for table in tables.values():
        table.close()


def _draw_part(tables: dict[str, GzipTable], rng: np.random.Generator, start: int, rows: int, people: int) -> None:
    number = np.arange(start, start + rows)
    uuid, observer = uuids(number, 0), pa.array(rng.integers(0, people, rows))
    family = rng.choice(len(SHARES), rows, p=list(SHARES.values()))
    taxon = 100 + rng.integers(0, SPECIES, rows) + SPECIES * family
    degrees = [pa.array(np.char.mod("%.10f", rng.uniform(-end, end, rows))) for end in (90, 180)]
    days = np.datetime64("2010-01-01") + rng.integers(0, 5000, rows)
    tables["observations"].add(
        {
            "observation_uuid": uuid,
            "observer_id": observer,
            "latitude": degrees[0],
            "longitude": degrees[1],
            "positional_accuracy": pa.array(rng.integers(1, 5000, rows)),
            "taxon_id": pa.array(taxon),
            "quality_grade": pa.array(np.array(["research", "needs_id", "casual"])[rng.integers(0, 3, rows)]),
            "observed_on": pa.array(days.astype(str)),
        }
    )
    order = rng.permutation(np.repeat(np.arange(rows), PHOTOS_EACH))
    photo_id = start * PHOTOS_EACH + np.arange(len(order))
    tables["photos"].add(
        {
            "photo_uuid": uuids(photo_id, 1),
            "photo_id": pa.array(photo_id),
            "observation_uuid": uuid.take(pa.array(order)),
            "observer_id": observer.take(pa.array(order)),
            "extension": pa.array(["jpg"] * len(order)),
            "license": pa.array(np.array(LICENCES)[rng.integers(0, len(LICENCES), len(order))]),
            "width": pa.array(rng.integers(500, 2048, len(order))),
            "height": pa.array(rng.integers(500, 2048, len(order))),
            "position": pa.array(np.zeros(len(order), int)),
        }
    )


def ours(source: Path, out: Path, taxon: str) -> Path:
    """The stage, as `instar records` runs it, but for the hashes of the sources' files."""
    from instar.records import stage

    stage.sha256_of = lambda path: ""  # hashing gigabytes for the manifest is not what is compared
    stage.records(
        source,
        out / "source",
        out / "records.parquet",
        out / "dropped.parquet",
        out / "taxonomy.parquet",
        out / "annotations.json",
        out / "metrics.json",
        out / "barcodes.parquet",
        out / "specimens.csv",
        out / "outlines.csv",
        out / "individuals.parquet",
        partition=Path("workflow/conf/empty/partition.csv"),
        seed=0,
        shards=[f"s{number:03}" for number in range(200)],
        kind="tables",
        taxon=taxon,
        licences=ALLOWED,
        quality_grades=GRADES,
        photo_size="original",
        bbox=[],
        observed_from="",
        observed_to="",
        max_per_species=0,
        name_confidence=85,
        annotation_split="observation",
        annotation_faults="refuse",
        annotation_validation_share=0.2,
        annotation_test_share=0.2,
        annotation_gap_s=0,
        outline_categories=[],
        min_mask_px=15,
        tray_margin_px=200,
    )
    return out / "records.parquet"


def with_pandas(source: Path, out: Path, taxon: str) -> Path:
    """Chunks of the wanted columns, filtered as they are read, then merged."""
    folder = source / "inaturalist-open-data"
    plain = {"sep": "\t", "quoting": 3, "dtype": str, "chunksize": 500_000}
    taxa = pd.read_csv(folder / "taxa.csv.gz", sep="\t", quoting=3, dtype=str)
    root = taxa.loc[taxa["name"] == taxon, "taxon_id"].iloc[0]
    path = "/" + taxa["ancestry"].fillna("") + "/" + taxa["taxon_id"] + "/"
    taxa = taxa[path.str.contains(f"/{root}/", regex=False)]
    columns = ["observation_uuid", "observer_id", "latitude", "longitude", "taxon_id", "quality_grade", "observed_on"]
    observations = pd.concat(
        chunk[chunk["taxon_id"].isin(taxa["taxon_id"]) & chunk["quality_grade"].isin(GRADES)]
        for chunk in pd.read_csv(folder / "observations.csv.gz", usecols=columns, **plain)
    )
    observations = observations.astype({"latitude": float, "longitude": float})
    observations["observed_on"] = pd.to_datetime(observations["observed_on"], errors="coerce")
    columns = ["photo_id", "observation_uuid", "observer_id", "extension", "license"]
    allowed = {name.upper() for name in ALLOWED}
    wanted = pd.Index(observations["observation_uuid"])
    photos = pd.concat(
        chunk[chunk["license"].isin(allowed) & chunk["observation_uuid"].isin(wanted)]
        for chunk in pd.read_csv(folder / "photos.csv.gz", usecols=columns, **plain)
    )
    found = photos.drop(columns="observer_id").merge(observations, on="observation_uuid")
    found = found.merge(taxa[["taxon_id", "name"]], on="taxon_id")
    observers = pd.read_csv(folder / "observers.csv.gz", sep="\t", quoting=3, dtype=str)
    found = found.merge(observers, on="observer_id", how="left", suffixes=("", "_observer"))
    found.sort_values("photo_id").to_parquet(out / "pandas.parquet", compression="zstd")
    return out / "pandas.parquet"


def with_duckdb(source: Path, out: Path, taxon: str) -> Path:
    """One query over the files."""
    import duckdb

    folder = source / "inaturalist-open-data"
    read = "read_csv('{}/{}.csv.gz', delim='\t', quote='', escape='', header=true, all_varchar=true)"
    tables = {name: read.format(folder, name) for name in TABLES}
    connection = duckdb.connect(config={"threads": 2, "preserve_insertion_order": False, "temp_directory": str(out)})
    quoted = ", ".join(f"'{name.upper()}'" for name in ALLOWED)
    connection.execute(
        f"""copy (
        with root as (select taxon_id from {tables["taxa"]} where name = '{taxon}'),
        below as (select t.taxon_id, t.name from {tables["taxa"]} t, root
          where contains('/' || coalesce(t.ancestry, '') || '/' || t.taxon_id || '/', '/' || root.taxon_id || '/')),
        seen as (select o.*, b.name from {tables["observations"]} o join below b using (taxon_id)
          where quality_grade in ('research', 'needs_id'))
        select p.photo_id, p.extension, p.license, s.observation_uuid, s.observer_id, s.name, s.taxon_id,
          try_cast(s.latitude as double) latitude, try_cast(s.longitude as double) longitude,
          try_cast(s.observed_on as date) observed_on, coalesce(r.name, r.login) holder
        from {tables["photos"]} p join seen s using (observation_uuid)
        left join {tables["observers"]} r on r.observer_id = s.observer_id
        where p.license in ({quoted}) order by p.photo_id
        ) to '{out}/duckdb.parquet' (format parquet, compression zstd)"""
    )
    return out / "duckdb.parquet"


WAYS = {"ours": ours, "pandas": with_pandas, "duckdb": with_duckdb}


def run_one(way: str, source: Path, out: Path, taxon: str) -> None:
    """In a process of its own: run one way and print its figures as JSON."""
    pa.set_cpu_count(2)
    before, wall = time.process_time(), time.perf_counter()
    path = WAYS[way](source, out, taxon)
    cpu, wall = time.process_time() - before, time.perf_counter() - wall
    # getrusage's peak would be that of the process that started this one, where that was larger
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) / 1024
    ids = np.sort(pq.read_table(path, columns=["photo_id"])["photo_id"].cast(pa.int64()).to_numpy())
    figures = {"cpu_s": cpu, "wall_s": wall, "peak_mib": peak, "taken": len(ids)}
    print(json.dumps({**figures, "ids": zlib.crc32(ids.tobytes())}))


def measure(source: Path, ways: list[str], taxon: str) -> dict[str, dict[str, float]]:
    """The figures of each way, which must select the same photographs."""
    found = {}
    for way in ways:
        with tempfile.TemporaryDirectory(dir=source.parent) as out:
            words = [sys.executable, __file__, "--way", way, "--source", str(source), "--out", out, "--taxon", taxon]
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{way}: {done.stderr[-2000:]}")
            found[way] = json.loads(done.stdout.splitlines()[-1])
    assert len({one["ids"] for one in found.values()}) == 1, found
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="2,000 and 20,000 photographs, seconds")
    parser.add_argument("--photos", type=int, default=2_000_000, help="the smaller number of photographs")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--folder", type=Path, help="where the tables are drawn; needs about 3 GB")
    for name in ("way", "source", "out", "taxon"):
        parser.add_argument(f"--{name}", type=Path if name in ("source", "out") else str, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        run_one(options.way, options.source, options.out, options.taxon)
        return
    photos = 2_000 if options.small else options.photos
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report(Path(folder), [photos, 10 * photos], options.ways)


def report(folder: Path, sizes: list[int], ways: list[str]) -> None:
    """Draw, measure, check and print."""
    found = {}
    print(f"{'photographs':>12} {'share':>5} {'way':>8} {'taken':>9} {'CPU s':>8} {'wall s':>8} {'peak MiB':>9}")
    for photos in sizes:
        source = folder / str(photos)
        draw(source / "inaturalist-open-data", photos)
        for taxon, share in list(SHARES.items())[:2]:
            figures = measure(source, ways, taxon)
            for way, one in figures.items():
                found[way, photos, taxon] = one
                timed = f"{one['taken']:>9,} {one['cpu_s']:>8.1f} {one['wall_s']:>8.1f} {one['peak_mib']:>9.0f}"
                print(f"{photos:>12,} {share:>5.0%} {way:>8} {timed}", flush=True)
            for way in ways[1:]:
                cpu, peak = (figures[ways[0]][name] / figures[way][name] for name in ("cpu_s", "peak_mib"))
                print(f"{ways[0]} / {way}: CPU {cpu:.2f}, peak {peak:.2f}", flush=True)
    few, many = sizes
    for way in ways:
        peak = {(rows, taxon): one["peak_mib"] for (whose, rows, taxon), one in found.items() if whose == way}
        growth = [peak[many, taxon] / peak[few, taxon] for taxon in ("Formicidae", "Carabidae")]
        taken = peak[many, "Carabidae"] / peak[few, "Formicidae"]
        print(f"{way}: peak grows by {growth[0]:.2f} (1 %) and {growth[1]:.2f} (10 %) with rows, {taken:.2f} with both")


if __name__ == "__main__":
    main()
