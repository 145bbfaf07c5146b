"""A classifier of individuals: margins, triplets, their batches, the epoch that is kept, embeddings, own weights."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from crop_shards import SPECIES, train, write_crops
from project import ROOT
from safetensors.torch import load_file, save_file
from test_classifier import Harmful, described
from test_resume import assert_same, sigterm_at
from torch.nn.functional import cross_entropy

from instar.classifier.augment import AutoAugmented
from instar.classifier.data import GroupedDraws
from instar.classifier.labels import LabelSpace
from instar.classifier.losses import ArcFaceLoss, NodeProbabilities, arcface_logits, triplet_loss
from instar.classifier.model import DESCRIPTION, WEIGHTS, build_network, load
from instar.classifier.network import CosineHead, Network
from instar.classifier.predict import Predictor
from instar.classifier.train import Epoch, kept_epoch
from instar.errors import InputError
from instar.study import compose
from instar.tables import DATASET, IDENTITY_DATASET, read_table, write_table

LABELS = LabelSpace(("a", "b", "c"), ("individual",) * 3, (-1,) * 3)
#: Of what is learnt here; a batch holds four photographs of each of four individuals.
SETTINGS: dict[str, Any] = {"loss": "arcface", "balance": "none", "embedding": 8, "epochs": 3, "image_px": 16}
TRIPLET: dict[str, Any] = {**SETTINGS, "loss": "triplet", "margin": 0.3, "of_each": 4}


# losses


def test_no_crops() -> None:
    empty = torch.zeros(0, dtype=torch.long)
    assert ArcFaceLoss(LABELS, margin=0.5, scale=8.0, smoothing=0.0)(torch.zeros(0, 3), empty).shape == (0,)
    assert triplet_loss(torch.zeros(0, 2), empty, margin=0.3).item() == 0


def test_the_margin_in_two_dimensions_by_hand() -> None:
    # a crop at 0°, classes at 60°, 90° and 170°; a margin of 30°
    head = CosineHead(2, 3, scale=10.0)
    degrees = torch.deg2rad(torch.tensor([60.0, 90.0, 170.0]))
    head.weight.data = 7 * torch.stack([degrees.cos(), degrees.sin()], 1)  # lengths do not count
    logits = head(torch.tensor([[0.5, 0.0]])).expand(3, 3)
    assert logits[0].tolist() == pytest.approx([5, 0, 10 * math.cos(math.radians(170))], abs=1e-5)
    found = arcface_logits(logits, torch.arange(3), margin=math.pi / 6, scale=10.0)
    # 60° + 30° and 90° + 30°; 170° is beyond 150°, so cos 170° - m sin m
    beyond = 10 * (math.cos(math.radians(170)) - math.pi / 6 * 0.5)
    assert found.diagonal().tolist() == pytest.approx([0, -5, beyond], abs=1e-4)
    off = ~torch.eye(3, dtype=torch.bool)
    assert torch.equal(found[off], logits[off])
    loss = ArcFaceLoss(LABELS, margin=math.pi / 6, scale=10.0, smoothing=0.0)(logits, torch.arange(3))
    assert loss[0].item() == pytest.approx(math.log(2 + math.exp(-10 * math.cos(math.radians(10)))), rel=1e-4)


def test_the_margin_only_ever_lowers_and_its_gradient_is_finite() -> None:
    angles = torch.linspace(0, math.pi, 2001)
    cosines = angles.cos()[:, None].clone().requires_grad_()
    found = arcface_logits(64 * cosines, torch.zeros(2001, dtype=torch.long), margin=0.5, scale=64.0)
    assert (found < 64 * cosines).all()
    assert (found.diff(dim=0) < 0).all()
    found.sum().backward()
    assert cosines.grad is not None and torch.isfinite(cosines.grad).all()


def test_without_a_margin_it_is_cross_entropy() -> None:
    logits, targets = 4 * torch.rand(9, 3, generator=torch.Generator().manual_seed(0)) - 2, torch.arange(9) % 3
    found = ArcFaceLoss(LABELS, margin=0.0, scale=4.0, smoothing=0.1)(logits, targets)
    torch.testing.assert_close(found, cross_entropy(logits, targets, label_smoothing=0.1, reduction="none"))


def on_circle(*degrees: float) -> torch.Tensor:
    angles = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([angles.cos(), angles.sin()], 1)


def test_the_hardest_triplets_of_four_points_by_hand() -> None:
    # a chord of 2 sin(angle / 2): 30° 0.5176, 60° 1, 90° 1.4142, 120° 1.7321
    targets = torch.tensor([0, 0, 1, 1])
    wanted = [0.2 + 1.4142 - 1, 0.2 + 1.4142 - 0.5176, 0.2 + 1.7321 - 1.4142, 0.2 + 1.7321 - 0.5176]
    found = triplet_loss(on_circle(0, 90, 180, 60), targets, margin=0.2)
    assert found.item() == pytest.approx(sum(wanted) / 4, abs=1e-4)
    # a fifth alone of its individual is no anchor, but 15° from the first: 0.2611
    wanted[0] = 0.2 + 1.4142 - 0.2611
    alone = triplet_loss(on_circle(0, 90, 180, 60, -15), torch.tensor([0, 0, 1, 1, 2]), margin=0.2)
    assert alone.item() == pytest.approx(sum(wanted) / 4, abs=1e-4)
    # of three the farthest counts: 0.2 + 1.4142 - 1 for the second, the others' negatives are far enough
    of_three = triplet_loss(on_circle(0, 90, 30, 150), torch.tensor([0, 0, 0, 1]), margin=0.2)
    assert of_three.item() == pytest.approx(0.6142 / 3, abs=1e-4)
    assert triplet_loss(on_circle(0, 5, 180, 185), targets, margin=0.2).item() == 0  # far apart already
    assert triplet_loss(on_circle(0, 90), torch.tensor([3, 3]), margin=0.2).item() == 0  # no other


def test_triplets_of_equal_points_have_a_finite_gradient() -> None:
    points = torch.ones(4, 2, requires_grad=True)
    triplet_loss(torch.nn.functional.normalize(points), torch.tensor([0, 0, 1, 1]), margin=0.2).backward()
    assert points.grad is not None and torch.isfinite(points.grad).all()


def test_one_rank_of_individuals_has_the_softmax_for_probabilities() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    torch.testing.assert_close(NodeProbabilities(LABELS, "arcface")(logits), logits.softmax(1))


# batches

#: Individual 0 has ten photographs, 1 three, 2 one, 3 and 4 four each.
GROUPS = np.repeat(np.arange(5), [10, 3, 1, 4, 4])


def grouped(**given: Any) -> GroupedDraws:
    return GroupedDraws(GROUPS, **{"of_each": 2, "batch": 4, "seed": 0, **given})


def test_each_batch_has_so_many_of_each_individual() -> None:
    draws = grouped()
    assert len(draws) == len(list(draws)) == 20  # 22 crops make five whole batches
    for epoch in range(8):
        draws.set_epoch(epoch)
        found = list(draws)
        assert [draw for _, draw in found] == list(range(20 * epoch, 20 * epoch + 20))
        for start in range(0, 20, 4):
            individuals = GROUPS[[index for index, _ in found[start : start + 4]]]
            assert sorted(np.bincount(individuals, minlength=5))[-2:] == [2, 2]
        # of an individual with enough photographs no two of a pair are the same
        pairs = np.array([index for index, _ in found]).reshape(-1, 2)
        assert ((pairs[:, 0] != pairs[:, 1]) | (GROUPS[pairs[:, 0]] == 2)).all()
    draws.set_epoch(0)
    first = list(draws)
    assert first == list(grouped()) and first != list(grouped(seed=1))


def test_individuals_come_equally_often() -> None:
    draws, counts = grouped(), np.zeros(5)
    for epoch in range(200):
        draws.set_epoch(epoch)
        counts += np.bincount(GROUPS[[index for index, _ in draws]], minlength=5)
    np.testing.assert_allclose(counts / counts.sum(), 0.2, atol=0.02)


def test_batches_of_several_processes_are_those_of_one() -> None:
    alone = list(grouped(batch=4))
    parts = [list(grouped(batch=2, rank=rank, world=2)) for rank in range(2)]
    assert [len(part) for part in parts] == [10, 10]
    for step in range(5):
        together = sorted(parts[0][2 * step : 2 * step + 2] + parts[1][2 * step : 2 * step + 2])
        assert together == sorted(alone[4 * step : 4 * step + 4])


def test_grouped_batches_go_on_in_the_middle_of_an_epoch() -> None:
    for rank in range(2):
        whole, rest = (grouped(batch=2, rank=rank, world=2) for _ in range(2))
        rest.skip(6, epoch=1)
        assert list(rest) == list(whole)
        whole.set_epoch(1)
        rest.set_epoch(1)
        assert list(rest) == list(whole)[6:]


def test_a_batch_of_more_individuals_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="asks for 6 individuals in a step and 5 are to be learnt; lower the batch"):
        grouped(batch=6, world=2)


# epochs


def test_which_epoch_is_kept() -> None:
    figures = [(2.0, 0.5), (2.5, 0.7), (1.5, 0.5), (1.8, 0.6), (1.0, 0.6), (0.9, 0.7), (1.9, 0.7)]
    epochs = [Epoch(n, 0.0, 0.0, loss, top1) for n, (loss, top1) in enumerate(figures)]
    assert [kept_epoch(epochs[:n], "last") for n in range(1, 8)] == [0, 1, 2, 3, 4, 5, 6]
    assert [kept_epoch(epochs[:n], "best_top1") for n in range(1, 8)] == [0, 1, 1, 1, 1, 1, 1]
    # the second's loss is worse, the third's top-1 no better; the fourth betters both of the first, the fifth one
    assert [kept_epoch(epochs[:n], "best_both") for n in range(1, 8)] == [0, 0, 0, 3, 3, 5, 5]
    assert kept_epoch([Epoch(1, 0.5, 0.1)], "last") == 0


# the stage


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four individuals that train with eight photographs each; of one validation holds all, and two are queries."""
    path: Path = tmp_path_factory.mktemp("individuals")
    write_crops(path, train=8, validation=3, genus_level=0)
    rows = read_table(path / "dataset.parquet", DATASET).to_pylist()
    held_out = [row for row in rows if row["split"] == "validation"]
    for row in rows:
        row |= {"rank": "individual", "species": None, "genus": None, "is_new": False, "image_id": row["key"]}
        row |= {"dataset": "drawn", "latitude": None, "longitude": None}
        if row["reason"]:
            row |= {"label": None, "rank": None, "is_new": None}
    for row in held_out[:2]:
        row |= {"label": "stranger", "is_new": True}
    for row in held_out[2:4]:
        row |= {"label": None, "rank": None, "is_new": None, "split": "query"}
    write_table(path / "dataset.parquet", rows, IDENTITY_DATASET)
    return path


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    return train(folder, **SETTINGS, keep="best_both")


def metrics(out: Path) -> Any:
    return json.loads((out / "classifier.json").read_text())


def test_rows_that_are_new_or_asked_for_are_left_out(trained: Path) -> None:
    figures = metrics(trained)
    dropped = {"dropped by dataset": 1, "query": 2, "new individual": 2}
    assert figures["rows"] == {"in": 45, "out": 40, "dropped": dropped}
    assert (figures["train_crops"], figures["validation_crops"], figures["classes"]) == (32, 8, 4)


def test_the_table_of_the_epochs(trained: Path) -> None:
    figures = metrics(trained)
    table = figures["table"]
    assert [list(row) for row in table] == [
        ["epoch", "train_loss", "validation_loss", "validation_accuracy", "learning_rate"]
    ] * 3
    assert [row["epoch"] for row in table] == [1, 2, 3]
    assert table[-1]["validation_accuracy"] == figures["validation_top1"]
    epochs = [Epoch(0, 0, 0, row["validation_loss"], row["validation_accuracy"]) for row in table]
    assert figures["best_epoch"] == kept_epoch(epochs, "best_both") + 1


def test_embeddings_of_a_trained_classifier(trained: Path) -> None:
    description = json.loads((trained / "classifier" / DESCRIPTION).read_text())
    assert (description["embedding"], description["scale"], description["keep"]) == (8, 16.0, "best_both")
    assert [label["rank"] for label in description["labels"]] == ["individual"] * 4
    assert [label["name"] for label in description["labels"]] == SPECIES
    predictor = Predictor(trained / "classifier")
    pixels = torch.randint(256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = predictor.embeddings(pixels)
    assert (found.shape, found.dtype) == ((3, 8), torch.float32)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))
    weights = load_file(trained / "classifier" / WEIGHTS)
    centres = torch.nn.functional.normalize(weights["head.weight"], dim=1)
    torch.testing.assert_close(predictor.logits(pixels, torch.zeros(3, 2)), 16 * found @ centres.T)
    assert not predictor.probabilities(pixels, torch.zeros(3, 2)).isnan().any()


def test_without_a_layer_of_its_own_the_features_are_compared() -> None:
    backbone: Any = timm.create_model("test_resnet", num_classes=0).eval()
    network, pixels = Network(backbone, 4, place="none"), torch.randn(2, 3, 32, 32)
    features = backbone(pixels)
    torch.testing.assert_close(network.embed(pixels), features / features.norm(dim=1, keepdim=True))
    assert set(network.state_dict()) == {f"backbone.{name}" for name in backbone.state_dict()} | {
        "head.weight",
        "head.bias",
    }


def test_triplets_are_learnt_and_gone_on_with(folder: Path) -> None:
    whole = train(folder, "triplet", **TRIPLET)
    with sigterm_at(32 + 8 + 20), pytest.raises(SystemExit):  # in the second epoch
        train(folder, "stopped", **TRIPLET)
    assert_same(train(folder, "stopped", **TRIPLET), whole)
    _, description = load(whole / "classifier")
    assert (description.loss, description.scale) == ("triplet", 16.0)


def test_triplets_alone_move_the_embedding(folder: Path) -> None:
    """The head's loss, scaled by the scale of its logits, reaches the head and nothing below it."""
    still = {**TRIPLET, "epochs": 1, "margin": 0.0, "weight_decay": 0.0, "precision": "float32", "frozen_epochs": 1}
    one: Any
    other: Any
    wider: Any
    one, other = (load(train(folder, f"scale-{scale}", **still, scale=scale) / "classifier")[0] for scale in (4.0, 8.0))
    assert torch.equal(one.embedding.weight, other.embedding.weight)
    assert not torch.equal(one.head.weight, other.head.weight)
    wider = load(train(folder, "wider", **{**still, "margin": 1.0}, scale=4.0) / "classifier")[0]
    assert not torch.equal(one.embedding.weight, wider.embedding.weight)


# weights of one's own


def test_weights_from_a_file(tmp_path: Path) -> None:
    published = timm.create_model("test_resnet", num_classes=7).state_dict()
    save_file(published, tmp_path / "whole.safetensors")
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in published.items()}}, tmp_path / "whole.bin")
    for name in ("whole.safetensors", "whole.bin"):
        found = build_network(described("test_resnet", 32), tmp_path / name).backbone.state_dict()
        assert set(published) - set(found) == {"fc.weight", "fc.bias"}
        assert all(torch.equal(found[name], published[name]) for name in found)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    part = dict(list(timm.create_model("test_resnet").state_dict().items())[5:])
    save_file(part, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=r"part\.safetensors: no weights of test_resnet at 32 px .*Missing key"):
        build_network(described("test_resnet", 32), tmp_path / "part.safetensors")
    with pytest.raises(InputError, match=r"classifier\.weights = \S*none\.bin: no such file"):
        build_network(described("test_resnet", 32), tmp_path / "none.bin")
    trace = tmp_path / "trace"
    torch.save({"conv1.weight": Harmful(trace)}, tmp_path / "harmful.bin")
    with pytest.raises(InputError, match=r"harmful\.bin: no weights \(") as told:
        build_network(described("test_resnet", 32), tmp_path / "harmful.bin")
    assert not trace.exists()
    assert "\n" not in str(told.value)


def test_weights_are_told_by_their_content(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(9)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "own.safetensors")
    frozen: dict[str, Any] = {**SETTINGS, "epochs": 1, "frozen_epochs": 1, "weights": str(tmp_path / "own.safetensors")}
    out = train(folder, "own", **frozen)
    learnt, own = load_file(out / "classifier" / WEIGHTS), load_file(tmp_path / "own.safetensors")
    assert all(torch.equal(learnt[f"backbone.{name}"], own[name]) for name in own if not name.startswith("fc."))
    text = (out / "classifier" / DESCRIPTION).read_text()
    assert len(json.loads(text)["weights_sha256"]) == 64 and "own.safetensors" not in text


# what a view shows


def test_auto_augment_depends_on_its_generator_alone() -> None:
    view = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    change, before = AutoAugmented(), torch.get_rng_state()
    first = [change(np.random.default_rng(seed), view) for seed in range(20)]
    torch.manual_seed(1)
    again = [change(np.random.default_rng(seed), view) for seed in range(20)]
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert all(one.shape == (16, 16, 3) and one.dtype == np.uint8 for one in first)
    assert len({one.tobytes() for one in first}) > 10
    torch.set_rng_state(before)
    change(np.random.default_rng(3), view)
    assert torch.equal(torch.get_rng_state(), before)


# parameters

IDENTITY = ["labels=[identity]", "records.kind=individuals", "place=none", "balance=none"]
IDENTITY += ["dataset.split_by=open_set"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["classifier.early_stop=3"], "early_stop = 3 is not allowed with classifier.keep = last; choose best_top1"),
        (["classifier.of_each=5", "balance=none"], "of_each = 5 is not allowed; it must divide classifier.batch = 32"),
        (["classifier.of_each=4"], "of_each = 4 is not allowed with balance = sampler"),
        ([*IDENTITY, "loss=triplet"], "of_each = 0 is not allowed; loss = triplet needs at least 2"),
        ([*IDENTITY, "loss=triplet", "classifier.of_each=4", "classifier.mixup=0.2"], "a mixture is of no individual"),
        ([*IDENTITY, "loss=arcface", "place=late"], "loss = arcface is not allowed with place = late"),
        (["classifier.pretrained=true", "classifier.weights=a.bin"], r"weights = a\.bin is not allowed"),
    ],
)
def test_what_does_not_go_together_is_told(words: list[str], told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=told) as caught:
        compose("demo", words)
    assert "\n" not in str(caught.value)


def test_triplets_that_go_together_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert "of_each: 4\n" in compose("demo", [*IDENTITY, "loss=triplet", "classifier.of_each=4"])
