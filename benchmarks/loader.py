"""What loading crops for training costs, against torchvision, albumentations and mere decoding: images a CPU-second.

One process, one thread, batches of 32 views of 224 pixels of JPEG crops that are 448 pixels long, with the light
recipe: random resized crop and mirroring. Ours are ``Views`` out of a tar through the project's loader, normalised per
batch, and again without that, as they go to a GPU; the others read loose files, as ``ImageFolder`` does, and normalise
each view. ``torchvision v1`` works on PIL. ``albumentations`` works on OpenCV and runs where it is installed; the
project's environment leaves it out, for it is no longer maintained. ``OpenCV by hand`` makes the calls that it makes
and none besides. Ours also pads to a square and draws each view from seed and draw alone.

Crops take 0.3 bytes a pixel, as photographs do that are shrunk to this size and saved as the stage ``crops`` does it.
Equal results are asserted first: of the same window all show the same, but for PIL's wider filter.
"""

import argparse
import math
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it asks a package index at import

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import functional

from instar.classifier.augment import normalised
from instar.classifier.data import CropReader, Draws, Shown, Views, loader
from instar.classifier.views import render
from instar.shards import writing

try:
    import albumentations
    from albumentations.pytorch import ToTensorV2
except ModuleNotFoundError:
    albumentations = None

IMAGE_PX, LONGER_PX, BATCH, CROP_SCALE = 224, 448, 32, 0.5
LOG_RATIO = math.log(3 / 4), math.log(4 / 3)
Batches = Callable[[], Iterable[torch.Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--small", action="store_true", help="64 crops, one round, in seconds")
    crops, rounds = (64, 1) if parser.parse_args().small else (1024, 5)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        rows = drawn_crops(Path(name), crops)
        files = [Path(name) / f"{key}.jpg" for key in rows["key"]]
        assert_equal(CropReader(Path(name), rows), files)
        runs: dict[str, Batches] = {
            "decoding alone": lambda: decoded(files),
            "instar": lambda: map(imagenet, ours(Path(name), rows)),
            "instar, uint8": lambda: ours(Path(name), rows),
            "OpenCV by hand": lambda: batches(Loose(files, with_opencv)),
            "torchvision v1": lambda: batches(Loose(files, with_torchvision())),
        }
        if albumentations is not None:
            runs["albumentations"] = lambda: batches(Loose(files, with_albumentations()))
        rates = rates_of(runs, crops, rounds)
    print(f"{crops} crops of {np.mean(rows['size']) / 1000:.0f} kB, best of {rounds}, images per CPU-second")
    for label, found in rates.items():
        print(f"  {label:<15} {found:7.0f}")
    mine = rates["instar"]
    print(f"instar : torchvision v1 {mine / rates['torchvision v1']:.2f} (at least 3.5)")
    print(f"instar : OpenCV by hand {mine / rates['OpenCV by hand']:.2f}")
    if albumentations is not None:
        print(f"instar : albumentations {mine / rates['albumentations']:.2f} (at least 1.1)")
    floor = rates["decoding alone"]
    print(f"instar : decoding alone {mine / floor:.2f} (at least 0.5)")
    print(f"decoding alone : torchvision v1 {floor / rates['torchvision v1']:.2f}, more than which no loader gets")


def drawn_crops(folder: Path, count: int) -> pd.DataFrame:
    """Crops with structure at every scale, as loose files and in one shard, with where they lie in it."""
    rng = np.random.default_rng(0)
    rows = []
    scenes = [drawn_scene(rng) for _ in range(16)]
    with writing(folder / "a.tar") as tar:
        for n in range(count):
            height, width = LONGER_PX, int(rng.integers(LONGER_PX * 6 // 10, LONGER_PX + 1))
            top, left = rng.integers(0, 640 - height), rng.integers(0, 640 - width)
            crop = scenes[n % len(scenes)][top : top + height, left : left + width]
            crop = crop if n % 2 else crop.transpose(1, 0, 2)
            data = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
            (folder / f"{n:05d}.jpg").write_bytes(data)
            member = tar.add(f"{n:05d}.jpg", data)
            rows.append({"key": f"{n:05d}", "shard": "a", "offset": member.offset, "size": member.size})
    return pd.DataFrame(rows)


def drawn_scene(rng: np.random.Generator) -> np.ndarray:
    scene = np.full((640, 640, 3), 128, np.float32)
    for cells, amplitude in ((4, 40), (16, 40), (64, 40), (256, 18)):
        noise = rng.integers(-amplitude, amplitude, (cells, cells, 3)).astype(np.float32)
        scene += cv2.resize(noise, (640, 640), interpolation=cv2.INTER_CUBIC)
    scene += rng.normal(0, 2, scene.shape)
    return np.asarray(scene.clip(0, 255).astype(np.uint8))


def decoded(files: list[Path]) -> Iterable[torch.Tensor]:
    """No view is made: the ceiling for whoever decodes whole crops with OpenCV."""
    for path in files:
        cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
    return []


def ours(folder: Path, rows: pd.DataFrame) -> Iterable[torch.Tensor]:
    shown = Shown(
        seed=0,
        crop_scale=CROP_SCALE,
        flip="horizontal",
        rotation_deg=0.0,
        place_noise_deg=0.5,
        place_drop=0.5,
        auto_augment=False,
    )
    places = np.zeros((len(rows), 2), np.float32)
    views = Views(CropReader(folder, rows), np.zeros(len(rows), np.int64), places, IMAGE_PX, shown=shown)
    for batch in loader(views, Draws(len(rows), seed=0), batch=BATCH, workers=0, drop_last=False):
        yield batch[0]


def imagenet(pixels: torch.Tensor) -> torch.Tensor:
    return normalised(pixels, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


class Loose(Dataset[tuple[torch.Tensor, int]]):
    """Loose files; what is done to one of them is the transform's."""

    def __init__(self, files: list[Path], transform: Callable[[Path], torch.Tensor]) -> None:
        self._files, self._transform = files, transform

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(self._files[index]), 0


def batches(dataset: Loose) -> Iterable[torch.Tensor]:
    for pixels, _ in DataLoader(dataset, batch_size=BATCH, shuffle=True):
        yield pixels


#: Normalised value of each of 256 levels in each channel.
LEVELS = (np.arange(256)[:, None] / 255 - IMAGENET_DEFAULT_MEAN) / IMAGENET_DEFAULT_STD
LEVELS = LEVELS.astype(np.float32).reshape(1, 256, 3)


def with_opencv(path: Path) -> torch.Tensor:
    crop = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    height, width = crop.shape[:2]
    for _ in range(10):
        area, ratio = height * width * random.uniform(CROP_SCALE, 1), math.exp(random.uniform(*LOG_RATIO))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            y, x = random.randint(0, height - h), random.randint(0, width - w)
            crop = crop[y : y + h, x : x + w]
            break
    return opencv_view(crop, mirrored=random.random() < 0.5)


def opencv_view(part: np.ndarray, *, mirrored: bool) -> torch.Tensor:
    view = cv2.resize(part, (IMAGE_PX, IMAGE_PX), interpolation=cv2.INTER_LINEAR)
    if mirrored:
        view = cv2.flip(view, 1)
    return torch.from_numpy(cv2.LUT(view, LEVELS).transpose(2, 0, 1))


def with_torchvision() -> Callable[[Path], torch.Tensor]:
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(IMAGE_PX, scale=(CROP_SCALE, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
        ]
    )

    def load(path: Path) -> torch.Tensor:
        with path.open("rb") as file:  # as torchvision's own pil_loader
            found: torch.Tensor = transform(Image.open(file).convert("RGB"))
        return found

    return load


def with_albumentations() -> Callable[[Path], torch.Tensor]:
    transform = albumentations.Compose(
        [
            albumentations.RandomResizedCrop(size=(IMAGE_PX, IMAGE_PX), scale=(CROP_SCALE, 1.0)),
            albumentations.HorizontalFlip(),
            albumentations.Normalize(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
            ToTensorV2(),
        ]
    )

    def load(path: Path) -> torch.Tensor:
        found: torch.Tensor = transform(image=cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))["image"]
        return found

    return load


def assert_equal(reader: CropReader, files: list[Path]) -> None:
    """A window of up to 320 × 320 pixels, made a view and normalised by each."""
    mean, std = list(IMAGENET_DEFAULT_MEAN), list(IMAGENET_DEFAULT_STD)
    for index, path in enumerate(files[:8]):
        crop = reader.read(index)
        height, width = (min(320, side) for side in crop.shape[:2])
        view = render(crop, (0.0, 0.0, float(width), float(height)), IMAGE_PX)
        mine = imagenet(torch.from_numpy(view).permute(2, 0, 1).unsqueeze(0))[0]
        torch.testing.assert_close(mine, opencv_view(crop[:height, :width], mirrored=False), atol=1e-5, rtol=0)
        with Image.open(path) as image:
            part = functional.resized_crop(image.convert("RGB"), 0, 0, height, width, [IMAGE_PX, IMAGE_PX])
        pil = functional.normalize(functional.to_tensor(part), mean, std)
        assert (mine - pil).abs().mean() < 0.1
        assert (mine.mean() - pil.mean()).abs() < 0.01
        if albumentations is not None:
            steps = [albumentations.Crop(0, 0, width, height), albumentations.Resize(IMAGE_PX, IMAGE_PX)]
            transform = albumentations.Compose([*steps, albumentations.Normalize(mean, std), ToTensorV2()])
            torch.testing.assert_close(mine, transform(image=crop)["image"], atol=1e-5, rtol=0)


def rates_of(runs: dict[str, Batches], crops: int, rounds: int) -> dict[str, float]:
    """Images per CPU-second of this process with all its threads: best of so many rounds after one to warm up."""
    best = dict.fromkeys(runs, float("inf"))
    for turn in range(1 + rounds):
        for label, run in runs.items():
            start = time.process_time()
            for _ in run():
                pass
            if turn:
                best[label] = min(best[label], time.process_time() - start)
    return {label: crops / seconds for label, seconds in best.items()}


if __name__ == "__main__":
    main()
