"""A copy of the project in a folder of its own, with a study small enough to run in a test."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from instar.study import compose

ROOT = Path(__file__).parents[1]
REALDATA = ROOT.parent / "shared" / "realdata"

#: The demo's world and models made tiny: every stage runs, none learns much.
TINY = [
    "records.source=tests/world/tiny.yaml",
    "shards=[s00,s01]",
    "detector.image_px=96",
    "detector.epochs=1",
    "detector.plain_epochs=0",
    "detector.batch=8",
    "detector.workers=0",
    "detections.tile_px=512",
    "crops.confidence=0.0",
    "crops.max_px=64",
    "detections.max_boxes=12",
    "dataset.min_crop_px=5",
    "dataset.min_class_crops=4",
    "dataset.validation_crops=2",
    "classifier.model=test_resnet",
    "classifier.image_px=32",
    "classifier.epochs=1",
    "classifier.workers=0",
    "evaluation.bootstrap=100",
]
#: The same with one box for each photograph in place of a trained detector: stages up to crops in seconds.
WHOLE = [*TINY, "detector.family=whole_image", "detector.model=whole_image", "labels=[]"]


class Project:
    """A git repository with the project's tracked files, a DVC remote and a store of its own."""

    #: variables that its commands see besides the usual ones
    extra: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, root: Path, overrides: list[str], study: str = "demo") -> None:
        self.root = root
        files = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True)
        for name in files.splitlines():
            source = ROOT / name
            if name == "dvc.lock" or name.startswith("data/") or not (source.exists() or source.is_symlink()):
                continue
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, root / name, follow_symlinks=False)
        (root / "params.yaml").write_text(compose(study, overrides))
        self.run("git", "init", "-q")
        self.run("git", "config", "user.email", "test@example.org")
        self.run("git", "config", "user.name", "test")
        self.run("dvc", "remote", "add", "-q", "-d", "local", str(root.with_name(f"{root.name}-remote")))
        self.commit("start")

    @property
    def environment(self) -> dict[str, str]:
        """What its commands see: this interpreter's tools first, no profile and no run of anyone else."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("INSTAR_", "SNAKEMAKE_"))}
        store = str(self.root.with_name("store"))
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**kept, "PATH": path, "INSTAR_STORE": store, "DVC_NO_ANALYTICS": "1", **self.extra}

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command in the project and return what it printed."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: status {done.returncode}\n{done.stdout[-6000:]}")
        return done.stdout

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)

    def set(self, old: str, new: str, path: str = "params.yaml") -> None:
        """Replace text that must stand once in a file."""
        text = (self.root / path).read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
        (self.root / path).write_text(text.replace(old, new))

    def due(self, *targets: str) -> list[str]:
        """The rules that Snakemake would run, each as often as it has jobs."""
        printed = self.run("snakemake", "-n", *targets)
        return sorted(line.split()[1].rstrip(":") for line in printed.splitlines() if _is_rule(line))

    def copy(self, root: Path) -> "Project":
        """The same project elsewhere, times of files included."""
        other = object.__new__(Project)
        other.root = root
        shutil.copytree(self.root, root, symlinks=True)
        return other

    def clone(self, root: Path) -> "Project":
        """What git holds of the project, elsewhere, with the same DVC remote; no data."""
        other = object.__new__(Project)
        other.root = root
        self.run("git", "clone", "-q", str(self.root), str(root))
        remote = self.root.with_name(f"{self.root.name}-remote")
        other.run("dvc", "remote", "add", "-q", "-f", "-d", "local", str(remote))
        return other


def _is_rule(line: str) -> bool:
    words = line.split()
    return len(words) == 2 and words[0] in ("rule", "localrule") and words[1].endswith(":")
