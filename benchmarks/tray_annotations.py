"""Reading a large file of outlines: memory and time of ours and of json.load, which others use.

Run: ``python benchmarks/tray_annotations.py [--small]``; the large one is 300 MB.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

OURS = """
from instar.records.trays.coco import read_coco
coco = read_coco(path, path.parent)
print(coco.read, sum(len(one["segmentation"][0]) for key in coco.pictures for one in coco.outlines.of(key)))
"""
JSON = """
import json
coco = json.loads(path.read_text())
print(len(coco["annotations"]), sum(len(one["segmentation"][0]) for one in coco["annotations"]))
"""
MEASURED = """
import resource, sys, time
from pathlib import Path
path = Path(sys.argv[1])
{}
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_maxrss, used.ru_utime + used.ru_stime)
"""


def write(path: Path, megabytes: int) -> None:
    """A file of sub-images and polygons like MassID45's, pictures last."""
    rng = np.random.default_rng(0)
    written = number = 0
    with path.open("w") as file:
        file.write('{"annotations": [')
        while written < megabytes * 1e6:
            ring = rng.uniform(0, 2000, 2 * int(rng.integers(20, 120))).round(3).tolist()
            one = {"id": number, "image_id": number % 784, "name": "b", "category_id": 1, "segmentation": [ring]}
            written += file.write(("," if number else "") + json.dumps(one))
            number += 1
        images = [{"id": i, "toras_path": f"batch-1/G{i // 16}/G{i // 16}_tile_{i % 16}.jpg"} for i in range(784)]
        file.write(f'], "images": {json.dumps(images)}}}')


def measured(code: str, path: Path) -> tuple[str, int, float]:
    """What the code prints, its peak memory in MB and its CPU-seconds."""
    command = [sys.executable, "-c", MEASURED.format(code), str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    answer, used = done.stdout.splitlines()
    kilobytes, seconds = used.split()
    return answer, int(kilobytes) // 1024, float(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="3 MB")
    megabytes = 3 if parser.parse_args().small else 300
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "annots.json"
        write(path, megabytes)
        ours, memory, seconds = measured(OURS, path)
        theirs, their_memory, their_seconds = measured(JSON, path)
    assert ours == theirs, (ours, theirs)
    print(f"{megabytes} MB, {ours.split()[0]} outlines")
    print(f"ours:      {memory} MB at the peak, {seconds:.1f} CPU-seconds")
    print(f"json.load: {their_memory} MB at the peak, {their_seconds:.1f} CPU-seconds")
    print(f"memory {their_memory / memory:.1f} times smaller, time {seconds / their_seconds:.2f} times")


if __name__ == "__main__":
    main()
