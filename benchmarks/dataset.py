"""Cleaning and splitting crops: instar's streamed stage against a lean pandas version and DuckDB.

    python benchmarks/dataset.py --crops 12000000            # all three, equal results asserted first
    python benchmarks/dataset.py --crops 120000000 --only instar

Crops are generated with the columns and the proportions of the published ant set: 11,087 classes with a long tail,
many observations with several crops, a few photographs in two observations. Every run is a process of its own; printed
are wall time, CPU time and peak memory. The stage also makes the leakage report, which the other two do not.
Near-duplicates are those with equal hashes here, since neither of the other two has an index for more.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from instar.dataset.near import mix
from instar.splits import stable_hash, whole_groups
from instar.tables import CROPS, TAXONOMY, write_table

CLASSES, SHARD_CROPS, SEED, WANTED, MIN_PX, MIN_CLASS = 11_087, 50_000, 0, 5, 50, 10
LICENCES = ["cc0", "cc-by", "cc-by-nc", "cc-by-nc-sa", "cc-by-nd"]
ALLOWED = LICENCES[:4]
COLUMNS = ["key", "photo_key", "shard", "offset", "size", "observation_id", "observer_id", "basis"]
COLUMNS += ["latitude", "longitude"]
NUMBERS = ["licence", "box_width", "box_height", "taxon_id", "photo_phash", "observation_hash", "key_hash", "reason"]


def generate(folder: Path, crops: int) -> list[str]:
    """Write ``crops/<shard>.parquet`` and ``taxonomy.parquet``; returns the shards' names."""
    random = np.random.default_rng(SEED)
    genera = np.sort(random.integers(0, 340, CLASSES))
    is_genus = np.arange(CLASSES) % 31 == 0
    taxa = []
    for number, genus in enumerate(genera):
        name = f"Genus{genus:03} species{number:05}"
        ranks = {
            "species": None if is_genus[number] else name,
            "genus": f"Genus{genus:03}" if not is_genus[number] else f"Lone{number}",
        }
        taxa.append({"taxon_id": f"t{number}", "name": name, "rank": "species", **ranks})
    taxa.append({"taxon_id": "family", "name": "Formicidae", "rank": "family"})
    write_table(folder / "taxonomy.parquet", taxa, TAXONOMY)
    weights = 1 / np.arange(1, CLASSES + 1) ** 1.1
    cumulative = np.cumsum(weights / weights.sum())
    shards = [f"s{number:05}" for number in range(-(-crops // SHARD_CROPS))]
    (folder / "crops").mkdir()
    for number, shard in enumerate(shards):
        count = min(SHARD_CROPS, crops - number * SHARD_CROPS)
        _write_shard(folder / "crops" / f"{shard}.parquet", shard, number, count, len(shards), cumulative)
    return shards


def _write_shard(path: Path, shard: str, number: int, count: int, shards: int, cumulative: np.ndarray) -> None:
    random = np.random.default_rng([SEED, number])
    row = np.arange(count)
    photo = row * 3 // 4  # four crops of three photographs
    photo_id = photo.astype(np.uint64) * np.uint64(shards) + np.uint64(number)
    # of a photograph's number the observation follows: two photographs an observation, in different shards
    observation = photo_id // np.uint64(2)
    # one photograph in 40 also stands in another observation
    copied = mix(photo_id) % np.uint64(40) == 0
    phash = mix(np.where(copied, photo_id - np.uint64(1) * (photo_id > 0), photo_id) + np.uint64(1) << np.uint64(1))
    phash = np.where(copied, mix((photo_id // np.uint64(80)) + np.uint64(7) << np.uint64(1) | np.uint64(1)), phash)
    uniform = (mix(observation + np.uint64(99)) >> np.uint64(11)) / 2.0**53
    label = np.searchsorted(cumulative, uniform).clip(max=len(cumulative) - 1)
    above = mix(observation + np.uint64(5)) % np.uint64(50) == 0
    digits = pc.utf8_lpad(pa.array(mix(observation)).cast(pa.string()), 20, "0")
    observation_id = pc.binary_join_element_wise("inaturalist-", digits, digits, "")
    observer = mix(observation // np.uint64(40) + np.uint64(3)) % np.uint64(600_000)
    photo_key = pc.binary_join_element_wise("inaturalist-", pa.array(photo_id + np.uint64(10**8)).cast(pa.string()), "")
    box = random.gamma(3.0, 60.0, (2, count)).astype(np.float32)
    values = {
        "key": pc.binary_join_element_wise(photo_key, pa.array(row % 4).cast(pa.string()), "-"),
        "photo_key": photo_key,
        "photo_id": pa.array(photo_id).cast(pa.string()),
        "observation_id": observation_id,
        "observer_id": pc.binary_join_element_wise("inaturalist-", pa.array(observer).cast(pa.string()), ""),
        "taxon_id": pc.if_else(
            pa.array(above), "family", pc.binary_join_element_wise("t", pa.array(label).cast(pa.string()), "")
        ),
        "licence": pa.array(LICENCES).take(pa.array(random.choice(5, count, p=[0.05, 0.2, 0.7, 0.04, 0.01]))),
        "photo_phash": phash,
        "key_hash": mix(photo_id * np.uint64(4) + (row % 4).astype(np.uint64) + np.uint64(1 << 60)),
        "observation_hash": mix(observation + np.uint64(1 << 50)),
        "observer_hash": mix(observer + np.uint64(1 << 40)),
        "latitude": random.uniform(-60, 70, count),
        "longitude": random.uniform(-180, 180, count),
        "observed_at": pa.array(random.integers(1_200_000_000, 1_700_000_000, count)).cast(pa.timestamp("s", tz="UTC")),
        "offset": row.astype(np.int64) * 20_480 + 512,
        "size": random.integers(9_000, 20_000, count),
        "box_width": box[0],
        "box_height": box[1],
        "score": random.uniform(0.3, 1, count).astype(np.float32),
    }
    same = {"source": "inaturalist", "detector": "0" * 64, "basis": "field", "shard": shard}
    columns = [
        pa.array(values[field.name]).cast(field.type)
        if field.name in values
        else pa.array([same.get(field.name)] * count, field.type)
        for field in CROPS
    ]
    pq.write_table(pa.Table.from_arrays(columns, schema=CROPS), path, compression="zstd")


def run_instar(folder: Path, shards: list[str], out: Path) -> None:
    from instar.dataset.stage import dataset

    (folder / "decisions.csv").write_text("key,verdict,label,who,when,why,sha256\n")
    (folder / "earlier.csv").write_text("observation_id,split\n")
    dataset(
        folder / "crops",
        folder / "taxonomy.parquet",
        folder / "decisions.csv",
        folder / "earlier.csv",
        out,
        out.with_name("held_out.csv"),
        out.with_name("metrics.json"),
        out.with_name("examples.csv"),
        seed=SEED,
        shards=shards,
        licences=ALLOWED,
        min_crop_px=MIN_PX,
        min_class_crops=MIN_CLASS,
        near_duplicate_bits=0,
        split_by="observation",
        held_out_observers=0.2,
        validation_crops=WANTED,
        test_crops=0,
    )


def chosen(candidates: Any, sizes: Any) -> tuple[set[int], set[int]]:
    """Keys that validate and keys beyond the quota, from candidate rows in order and crops of each class."""
    validation, surplus = set[int](), set[int]()
    for label, rows in candidates.groupby("label", sort=False):
        groups = rows.groupby("observation_hash", sort=False)
        sized = groups.size()
        free = ~groups["mixed"].any()
        names = list(sized.index[free])[: 3 * WANTED + 1]
        taken = whole_groups([int(sized[name]) for name in names], wanted=WANTED, most=(len(sized) - 1) // 2)
        held = rows[rows["observation_hash"].isin([names[i] for i in taken])]
        if len(held) and sizes[label] - len(held) >= len(held):
            keys = [int(key) for key in held["key_hash"]]
            validation.update(keys[:WANTED])
            surplus.update(keys[WANTED:])
    return validation, surplus


def run_pandas(folder: Path, shards: list[str], out: Path) -> None:
    """One frame, the columns that are needed, categories and numbers where they serve; then the file."""
    import pandas as pd

    names = pd.read_parquet(folder / "taxonomy.parquet", columns=["taxon_id", "species", "genus"])
    names["label"] = names["species"].fillna(names["genus"])
    paths = [folder / "crops" / f"{shard}.parquet" for shard in shards]
    table = pq.read_table(paths, columns=NUMBERS, read_dictionary=["licence", "taxon_id"])
    rows = table.to_pandas(self_destruct=True, split_blocks=True)
    del table
    names = names.set_index("taxon_id").reindex(rows["taxon_id"].cat.categories)
    of_taxon = rows.pop("taxon_id").cat.codes.to_numpy()
    labels = pd.Categorical(names["label"])
    rows["label"] = labels.codes[of_taxon]
    is_species = np.zeros(len(labels.categories), bool)
    is_species[labels.codes[names["species"].notna().to_numpy()]] = True
    genus_of = np.zeros(len(labels.categories), np.int64)
    known = labels.codes >= 0
    genus_of[labels.codes[known]] = pd.factorize(names["genus"])[0][known]
    reason = np.select(
        [~rows.pop("licence").isin(ALLOWED), rows[["box_width", "box_height"]].min(axis=1) < MIN_PX, rows["label"] < 0],
        [1, 2, 3],
        0,
    ).astype(np.int8)
    rows = rows.drop(columns=["box_width", "box_height", "reason"])
    seed = np.uint64(stable_hash(SEED, "dataset"))
    kept = rows[reason == 0]
    shared = kept.groupby("photo_phash", sort=False)["observation_hash"].nunique()
    twice = kept[kept["photo_phash"].isin(shared.index[shared > 1])].copy()
    twice["species"] = twice["label"].where(is_species[twice["label"]])
    twice["genus"] = genus_of[twice["label"]]
    twice["is_genus"] = twice["species"].isna()
    groups = twice.groupby("photo_phash")
    conflict = (groups["species"].transform("nunique") > 1) | (groups["genus"].transform("nunique") > 1)
    first = twice.sort_values(["photo_phash", "is_genus", "observation_hash"]).groupby("photo_phash")[
        "observation_hash"
    ]
    other = twice["observation_hash"] != twice["photo_phash"].map(first.first())
    reason[twice.index[conflict]] = 4
    reason[twice.index[other & ~conflict]] = 5
    sizes = rows.loc[reason == 0, "label"].value_counts()
    reason[(reason == 0) & rows["label"].isin(sizes.index[sizes < MIN_CLASS]).to_numpy()] = 6
    kept = rows[reason == 0]
    mixed = kept.groupby("observation_hash", sort=False)["label"].nunique()
    barred = pd.concat([mixed.index[mixed > 1].to_series(), twice["observation_hash"]])
    candidates = kept[is_species[kept["label"]]].copy()
    candidates["order"] = candidates["observation_hash"] ^ seed
    candidates["key_order"] = candidates["key_hash"] ^ seed
    candidates["mixed"] = candidates["observation_hash"].isin(barred)
    candidates = candidates.sort_values(["label", "order", "key_order"])
    validation, surplus = chosen(candidates, sizes)
    split = np.where(reason == 0, 1, 0).astype(np.int8)
    split[rows["key_hash"].isin(validation)] = 2
    beyond = rows["key_hash"].isin(surplus).to_numpy()
    split[beyond], reason[beyond] = 0, 7
    label = rows["label"].to_numpy()
    del rows, kept, candidates
    result = pq.read_table(paths, columns=COLUMNS)
    texts = pa.array(labels.categories)
    codes = pa.array(label, mask=label < 0)
    result = result.append_column("label", texts.take(codes))
    result = result.append_column("split", pa.array([None, "train", "validation"]).take(pa.array(split)))
    result = result.append_column("reason", pa.array([None, *"1234567"]).take(pa.array(reason)))
    pq.write_table(result, out, compression="zstd")


def run_duckdb(folder: Path, shards: list[str], out: Path) -> None:
    """The same rules in SQL; only the choice of whole groups is Python's."""
    import duckdb

    seed = stable_hash(SEED, "dataset")
    base = duckdb.connect(str(out.with_suffix(".duckdb")))
    base.execute(f"SET threads=2; SET temp_directory='{out.parent}/spill'; SET preserve_insertion_order=false")
    allowed = ", ".join(f"'{name}'" for name in ALLOWED)
    base.execute(f"""
        CREATE TABLE rows AS
        SELECT key_hash, observation_hash AS observation, photo_phash AS phash, coalesce(species, genus) AS label,
               species, genus,
               CASE WHEN licence NOT IN ({allowed}) THEN 1 WHEN least(box_width, box_height) < {MIN_PX} THEN 2
                    WHEN genus IS NULL THEN 3 ELSE 0 END AS reason
        FROM read_parquet('{folder}/crops/*.parquet')
        LEFT JOIN read_parquet('{folder}/taxonomy.parquet') USING (taxon_id)
        WHERE reason IS NULL""")
    base.execute("""
        CREATE TABLE twice AS
        SELECT phash, count(DISTINCT species) > 1 OR count(DISTINCT genus) > 1 AS conflict,
               coalesce(min(observation) FILTER (species IS NOT NULL), min(observation)) AS first
        FROM rows WHERE reason = 0 GROUP BY phash HAVING min(observation) < max(observation)""")
    base.execute("""
        UPDATE rows SET reason = CASE WHEN conflict THEN 4 ELSE 5 END FROM twice
        WHERE rows.phash = twice.phash AND reason = 0 AND (conflict OR observation <> first)""")
    base.execute("CREATE TABLE sizes AS SELECT label, count(*) AS n FROM rows WHERE reason = 0 GROUP BY label")
    base.execute(f"""
        UPDATE rows SET reason = 6 FROM sizes WHERE rows.label = sizes.label AND reason = 0 AND n < {MIN_CLASS}""")
    base.execute(
        "CREATE TABLE mixed AS SELECT observation FROM rows WHERE reason = 0 "
        "GROUP BY observation HAVING min(label) < max(label) "
        "UNION SELECT observation FROM rows JOIN twice USING (phash) WHERE reason IN (0, 4, 5, 6)"
    )
    candidates = base.execute(f"""
        WITH observations AS
            (SELECT label, observation FROM rows WHERE reason = 0 AND species IS NOT NULL GROUP BY ALL),
        lowest AS (SELECT * FROM observations QUALIFY row_number() OVER
            (PARTITION BY label ORDER BY xor(observation, {seed}::UBIGINT)) <= 200)
        SELECT label, key_hash, observation AS observation_hash, observation IN (FROM mixed) AS mixed
        FROM rows JOIN lowest USING (label, observation) WHERE reason = 0
        ORDER BY label, xor(observation, {seed}::UBIGINT), xor(key_hash, {seed}::UBIGINT)""").df()
    sizes = base.execute("FROM sizes").df().set_index("label")["n"]
    validation, surplus = chosen(candidates, sizes)
    held = pa.table(
        {
            "key_hash": pa.array([*validation, *surplus], pa.uint64()),
            "validates": [True] * len(validation) + [False] * len(surplus),
        }
    )
    base.register("held", held)
    base.execute(f"""
        COPY (SELECT {", ".join(f"c.{name}" for name in COLUMNS)}, label,
                     CASE WHEN validates THEN 'validation'
                          WHEN rows.reason = 0 AND validates IS NULL THEN 'train' END AS split,
                     CASE WHEN NOT validates THEN '7' WHEN rows.reason > 0 THEN rows.reason::VARCHAR END AS reason
              FROM read_parquet('{folder}/crops/*.parquet') c
              JOIN rows USING (key_hash) LEFT JOIN held USING (key_hash))
        TO '{out}' (FORMAT parquet, COMPRESSION zstd)""")


RUNS = {"instar": run_instar, "pandas": run_pandas, "duckdb": run_duckdb}


def measured(name: str, folder: Path, out: Path) -> dict[str, float]:
    """Wall and CPU seconds and peak memory in GiB of one version, in a process of its own."""
    command = [sys.executable, __file__, "--run", name, "--folder", str(folder), "--out", str(out)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def same(one: Path, other: Path) -> None:
    """Assert that two results give every crop the same label and split."""
    import duckdb

    differing = duckdb.sql(f"""
        SELECT a.key, a.label, b.label AS label2, a.split, b.split AS split2, a.reason, b.reason AS reason2
        FROM '{one}' a FULL JOIN '{other}' b USING (key)
        WHERE (a.reason IS NULL AND a.label IS DISTINCT FROM b.label) OR a.split IS DISTINCT FROM b.split
        """)
    assert not len(differing.limit(1).fetchall()), f"{one.parent.name} and {other.parent.name} differ:\n{differing}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crops", type=int, default=12_000_000)
    parser.add_argument("--small", action="store_true", help="200,000 crops, in seconds")
    parser.add_argument("--only", choices=RUNS, help="run this version alone")
    parser.add_argument("--times", type=int, default=1, help="runs of each version; the best counts")
    parser.add_argument("--folder", type=Path, help="keep the generated crops here and use them again")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        shards = sorted(path.stem for path in (given.folder / "crops").glob("*.parquet"))
        start = time.perf_counter()
        RUNS[given.run](given.folder, shards, given.out)
        wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
        # ru_maxrss would count what the parent held before exec
        status = Path("/proc/self/status").read_text()
        peak_kib = int(status.split("VmHWM:")[1].split()[0])
        print(json.dumps({"wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime, "peak_gib": peak_kib / 2**20}))
        return
    crops = 200_000 if given.small else given.crops
    with tempfile.TemporaryDirectory(prefix="instar-benchmark-") as temporary:
        folder = given.folder or Path(temporary) / "given"
        if not (folder / "crops").is_dir():
            folder.mkdir(parents=True)
            print(f"generating {crops:,} crops", flush=True)
            generate(folder, crops)
        results = {}
        for name in [given.only] if given.only else RUNS:
            out = Path(temporary) / name / "dataset.parquet"
            out.parent.mkdir()
            runs = [measured(name, folder, out) for _ in range(given.times)]
            results[name] = {key: min(run[key] for run in runs) for key in runs[0]}
            print(f"{name:8}" + "".join(f"  {key} {value:8.2f}" for key, value in results[name].items()), flush=True)
            if name != "instar" and not given.only:
                same(Path(temporary) / "instar" / "dataset.parquet", out)
        for name in results.keys() - {"instar"}:
            if "instar" in results:
                ratios = {key: results["instar"][key] / value for key, value in results[name].items()}
                print(f"instar / {name}:" + "".join(f"  {key} {value:.2f}" for key, value in ratios.items()))


if __name__ == "__main__":
    main()
