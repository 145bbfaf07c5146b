"""What an unfinished training leaves, so that the same training goes on from its last whole epoch."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from instar.detectors import Training
from instar.files import remove, replacing

STATE = "training.json"


class Checkpoints:
    """Whole states of one training, one folder for each epoch, of which the last is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, training: Training, files: list[Path]) -> None:
        """Keep copies of the library's files together with the curve so far; it appears by one rename."""
        epoch = int(training.curve[-1]["epoch"])
        with replacing(self.folder / f"epoch-{epoch:06d}") as temporary:
            temporary.mkdir()
            for path in files:
                shutil.copyfile(path, temporary / path.name)
            (temporary / STATE).write_text(json.dumps(asdict(training)), encoding="utf-8")
        for older in self._epochs()[:-1]:
            remove(older)

    def latest(self) -> tuple[Training, Path] | None:
        """The training up to the last whole epoch and the folder of its files; None where there is none."""
        epochs = self._epochs()
        if not epochs:
            return None
        return Training(**json.loads((epochs[-1] / STATE).read_text(encoding="utf-8"))), epochs[-1]

    def _epochs(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*"))
