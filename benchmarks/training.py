"""Training a classifier, against the core of timm's own training script: images a second, epoch by epoch.

Run: python benchmarks/training.py [--small]. On a GPU ViT-S/16 at 224 pixels learns in bfloat16, with batches of 256
and 8 processes that load crops 448 pixels long; without one, or with --small, a tiny network does on the CPU.

Ours is ``Learner`` in ``fit`` with its ``Feed``, on crops in a shard. timm's package lacks ``train.py``; its loop is
written out here with the package's parts and the script's choices: ``create_dataset`` on a folder for each class,
``create_loader`` with its prefetcher, ``create_optimizer_v2``, a cosine schedule by step, autocast, TF32 and cuDNN's
benchmark on, and ``CheckpointSaver`` once an epoch, as ours writes a checkpoint once an epoch. (The script's
``NativeScaler`` scales float16 only.) Both learn by cross-entropy with label smoothing and AdamW from the light recipe:
random resized crop, mirroring, nothing else. Each runs in a process of its own, since both set switches of PyTorch.

Equal work is asserted first: images of an epoch, shape of each batch, parameters, and the precision of the logits. An
epoch lasts until the next one begins; the first, in which the loading processes start, does not count.
"""

import argparse
import io
import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import timm
import torch
from loader import drawn_scene
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import CheckpointSaver

from instar.classifier.data import CropReader, Shown, Views
from instar.classifier.fit import Feed, fit
from instar.classifier.labels import LabelSpace
from instar.classifier.model import Description, build_network
from instar.classifier.train import Learner, Recipe
from instar.shards import writing

CLASSES, SMOOTHING, CROP_SCALE, WEIGHT_DECAY, WARMUP = 20, 0.1, 0.5, 0.05, 0.1


@dataclass(frozen=True)
class Setting:
    """What both train."""

    model: str
    image_px: int
    longer_px: int  # of a crop
    batch: int
    batches: int
    workers: int
    epochs: int = 4  # one to warm up and three to choose the best of
    learning_rate: float = 1e-3

    @property
    def images(self) -> int:
        """Of an epoch; no batch is short."""
        return self.batch * self.batches


ON_GPU = Setting("vit_small_patch16_224", 224, 448, batch=256, batches=40, workers=8)
ON_CPU = Setting("test_vit2", 160, 320, batch=32, batches=32, workers=1)
SMALL = Setting("test_resnet", 64, 128, batch=16, batches=4, workers=1, epochs=2)


@dataclass
class Done:
    """What one of them did: the work that must be equal, and what it took."""

    parameters: int = 0
    batches: list[tuple[int, ...]] = field(default_factory=list)  # shape of each
    logits: set[str] = field(default_factory=set)  # types
    times: list[float] = field(default_factory=list)  # at which an epoch began, and the last one's end
    waited: list[str] = field(default_factory=list)  # of each epoch's time, as the training tells it

    def watch(self, network: torch.nn.Module, head: torch.nn.Module) -> None:
        """Note every batch that passes through."""
        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        head.register_forward_hook(lambda _, given, found: self.logits.add(str(found.dtype)))

    @property
    def seconds(self) -> float:
        """Of the best epoch behind the first."""
        return float(np.diff(self.times)[1:].min())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="64 small images on the CPU, in seconds")
    small = parser.parse_args().small
    if small:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    on_gpu = torch.cuda.is_available()
    setting = ON_GPU if on_gpu else SMALL if small else ON_CPU
    with tempfile.TemporaryDirectory() as name:
        rows = drawn(Path(name), setting)
        mine = alone(ours, Path(name), rows, setting, on_gpu)
        theirs = alone(timms, Path(name), rows, setting, on_gpu)
    assert_equal(mine, theirs, setting)
    where = torch.cuda.get_device_name() if on_gpu else "CPU"
    print(
        f"{setting.model} at {setting.image_px} px on {where}, logits {mine.logits.pop()}; {setting.images} images an "
        f"epoch, batch {setting.batch}, loading processes {setting.workers}; best of {setting.epochs - 1}, "
        "images a second"
    )
    for label, done in (("instar", mine), ("timm", theirs)):
        print(f"  {label:<6} {setting.images / done.seconds:7.0f}")
    print(f"instar : timm {theirs.seconds / mine.seconds:.2f} (on a GPU at least 1.0)")
    print(f"instar waits for data: {', '.join(mine.waited)} of each epoch (on a GPU at most 5 %)")


def drawn(folder: Path, setting: Setting) -> pd.DataFrame:
    """The same JPEGs as loose files, in a folder for each class, and in one shard; where they lie in that."""
    rng = np.random.default_rng(0)
    scenes = [drawn_scene(rng) for _ in range(16)]
    rows = []
    for number in range(CLASSES):
        (folder / f"loose/{number:02d}").mkdir(parents=True)
    with writing(folder / "a.tar") as tar:
        for number in range(setting.images):
            height, width = setting.longer_px, int(rng.integers(setting.longer_px * 6 // 10, setting.longer_px + 1))
            top, left = rng.integers(0, 640 - height), rng.integers(0, 640 - width)
            crop = scenes[number % len(scenes)][top : top + height, left : left + width]
            data = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
            (folder / f"loose/{number % CLASSES:02d}/{number:06d}.jpg").write_bytes(data)
            member = tar.add(f"{number:06d}.jpg", data)
            rows.append({"key": f"{number:06d}", "shard": "a", "offset": member.offset, "size": member.size})
    return pd.DataFrame(rows)


def alone(run: Callable[..., Done], *given: Any) -> Done:
    """Run in a fresh process, which may start others."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run, *given).result()


class Timed(Learner):
    """Notes when epochs begin and what they learn from."""

    done: Done

    def on_train_epoch_start(self) -> None:
        self.done.times.append(time.perf_counter())

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.done.batches.append(tuple(batch[0].shape))
        return super().training_step(batch, batch_idx)

    def on_train_end(self) -> None:
        finish()
        self.done.times.append(time.perf_counter())


def ours(folder: Path, rows: pd.DataFrame, setting: Setting, on_gpu: bool) -> Done:
    if not on_gpu:
        torch.set_num_threads(1)
    labels = LabelSpace(tuple(f"species {n}" for n in range(CLASSES)), ("species",) * CLASSES, (-1,) * CLASSES)
    description = Description(
        model=setting.model,
        pretrained=False,
        image_px=setting.image_px,
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        loss="flat",
        place="none",
        labels=labels,
        train_crops=(setting.images // CLASSES,) * CLASSES,
        train_crops_with_place=0,
        train_box=None,
        early_stop=0,
        licences={},
        dataset_md5="",
        code_sha256="",
        instar="",
    )
    recipe = Recipe(
        seed=0,
        epochs=setting.epochs,
        batch=setting.batch,
        accumulate=1,
        learning_rate=setting.learning_rate,
        weight_decay=WEIGHT_DECAY,
        layer_decay=1.0,
        frozen_epochs=0,
        schedule="cosine",
        warmup=WARMUP,
        ema=0.0,
        early_stop=0,
        keep="last",
        of_each=0,
        margin=0.0,
        colour=0.0,
        erasing=0.0,
        mixup=0.0,
        cutmix=0.0,
        precision="auto",
        compile=False,
        devices=1,
    )
    shown = Shown(
        seed=0,
        crop_scale=CROP_SCALE,
        flip="horizontal",
        rotation_deg=0.0,
        place_noise_deg=0.0,
        place_drop=0.0,
        auto_augment=False,
    )
    network = build_network(description)
    learner = Timed(network, description, recipe, torch.ones(CLASSES), SMOOTHING)
    learner.done = Done()
    learner.done.watch(network, network.head)
    nowhere = np.full((len(rows), 2), np.nan, np.float32)
    views = Views(CropReader(folder, rows), np.arange(len(rows)) % CLASSES, nowhere, setting.image_px, shown=shown)
    feed = Feed(learner, views, None, None, count=len(rows), weights=None, groups=None, workers=setting.workers)
    work = folder / "work"
    work.mkdir()
    with redirect_stderr(io.StringIO()) as told:
        fit(learner, feed, work)
    learner.done.waited = re.findall(r"(\d+%) of the time waiting", told.getvalue())
    return learner.done


def timms(folder: Path, rows: pd.DataFrame, setting: Setting, on_gpu: bool) -> Done:
    if not on_gpu:
        torch.set_num_threads(1)
    done, device = Done(), torch.device("cuda" if on_gpu else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    model = timm.create_model(setting.model, num_classes=CLASSES).to(device)
    done.watch(model, model.get_classifier())
    loader = create_loader(
        create_dataset("", root=str(folder / "loose"), is_training=True),
        input_size=(3, setting.image_px, setting.image_px),
        batch_size=setting.batch,
        is_training=True,
        scale=(CROP_SCALE, 1.0),
        color_jitter=0.0,
        interpolation="bilinear",
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        num_workers=setting.workers,
        pin_memory=on_gpu,
        device=device,
    )
    optimizer = create_optimizer_v2(model, opt="adamw", lr=setting.learning_rate, weight_decay=WEIGHT_DECAY)
    steps = setting.epochs * len(loader)
    warm = round(WARMUP * steps)
    scheduler = CosineLRScheduler(optimizer, steps, warmup_t=warm, warmup_prefix=True, t_in_epochs=False)
    criterion = LabelSmoothingCrossEntropy(SMOOTHING).to(device)
    (folder / "saved").mkdir()
    saver = CheckpointSaver(model, optimizer, checkpoint_dir=str(folder / "saved"), max_history=1)
    model.train()
    for epoch in range(setting.epochs):
        done.times.append(time.perf_counter())
        for number, (pixels, targets) in enumerate(loader):
            done.batches.append(tuple(pixels.shape))
            with torch.autocast("cuda", torch.bfloat16) if on_gpu else nullcontext():
                loss = criterion(model(pixels), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            scheduler.step_update(epoch * len(loader) + number + 1)
        finish()
        saver.save_checkpoint(epoch, metric=float(loss.detach()))
    done.times.append(time.perf_counter())
    return done


def finish() -> None:
    """Wait for what the GPU has been told to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def assert_equal(mine: Done, theirs: Done, setting: Setting) -> None:
    shape = (setting.batch, 3, setting.image_px, setting.image_px)
    assert mine.batches == theirs.batches == [shape] * (setting.epochs * setting.batches)
    assert mine.parameters == theirs.parameters, (mine.parameters, theirs.parameters)
    assert mine.logits == theirs.logits, (mine.logits, theirs.logits)
    assert len(mine.times) == len(theirs.times) == setting.epochs + 1
    assert len(mine.waited) == setting.epochs


if __name__ == "__main__":
    main()
