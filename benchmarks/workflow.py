"""How long ``snakemake -n all`` takes with more and more shards: wall time and CPU-seconds, the best of 3.

Nothing is there yet, so that every job of every shard is due: the most that planning has to do.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from project import Project  # noqa: E402  (makes a copy of the project, as the tests do)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="10 and 100 shards, once")
    small = parser.parse_args().small
    counts, repeats = ([10, 100], 1) if small else ([10, 100, 500, 2000], 3)
    with tempfile.TemporaryDirectory() as name:
        project = Project(Path(name) / "project", [])
        seconds = {count: planned(project, count, repeats) for count in counts}
    print(f"snakemake -n all, best of {repeats}")
    for count, (wall, cpu) in seconds.items():
        print(f"  {count:>5} shards  {wall:6.1f} s  {cpu:6.1f} CPU-s")
    for fewer, more in itertools.pairwise(counts):
        growth = seconds[more][1] / seconds[fewer][1]
        each_ms = (seconds[more][1] - seconds[fewer][1]) / (more - fewer) * 1e3
        print(f"{fewer} to {more} shards: {growth:.1f}x the CPU-seconds, {each_ms:.1f} ms for each further shard")


def planned(project: Project, shards: int, repeats: int) -> tuple[float, float]:
    """Seconds and CPU-seconds to plan all jobs, counted and found complete."""
    project.run("git", "checkout", "-q", "--", "params.yaml")
    names = ",".join(f"s{n:04d}" for n in range(shards))
    project.run("instar", "study", "demo", f"shards=[{names}]", "--force")
    wall, cpu = float("inf"), float("inf")
    for _ in range(repeats):
        wall_start, cpu_start = time.perf_counter(), sum(os.times()[2:4])
        printed = project.run("snakemake", "-n", "--quiet", "rules", "--", "all")
        wall = min(wall, time.perf_counter() - wall_start)
        cpu = min(cpu, sum(os.times()[2:4]) - cpu_start)
        jobs = dict(line.split() for line in printed.splitlines() if len(line.split()) == 2)
        assert {jobs[rule] for rule in ("images", "detections", "crops")} == {str(shards)}, printed[-2000:]
    return wall, cpu


if __name__ == "__main__":
    main()
