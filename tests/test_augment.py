"""Tests of instar.classifier.augment."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy
from torchvision.transforms.v2 import functional

from instar.classifier.augment import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    LUMA,
    Augment,
    cut_and_mixed,
    erased,
    mixed_loss,
    mixed_up,
    normalised,
    recoloured,
    step_generator,
)

MEAN, STD = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
ALL = {"colour": 0.5, "erasing": 0.5, "mixup": 0.2, "cutmix": 1.0}


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _raw(count: int, low: float = 0.35, high: float = 0.65) -> torch.Tensor:
    """Drawn RGB in a range that no gentle change leaves, float32 (count, 3, 8, 10)."""
    drawn = torch.rand(count, 3, 8, 10, generator=torch.Generator().manual_seed(1))
    return low + (high - low) * drawn


def _changed(raw: torch.Tensor, *factors: float, turns: float = 0.0) -> torch.Tensor:
    """RGB after ``recoloured`` with the same factors for every view."""
    factors_of_each = (torch.full((len(raw),), float(value)) for value in (*factors, turns))
    normalised = (raw - MEAN) / STD
    return recoloured(normalised, *factors_of_each, mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD) * STD + MEAN


@pytest.mark.parametrize(
    ("factors", "adjust"),
    [
        ((1.2, 1.0, 1.0), lambda raw: functional.adjust_brightness(raw, 1.2)),
        ((1.0, 0.7, 1.0), lambda raw: functional.adjust_contrast(raw, 0.7)),
        ((1.0, 1.0, 1.3), lambda raw: functional.adjust_saturation(raw, 1.3)),
        (
            (0.9, 1.1, 0.2),
            lambda raw: functional.adjust_saturation(
                functional.adjust_contrast(functional.adjust_brightness(raw, 0.9), 1.1), 0.2
            ),
        ),
    ],
)
def test_colour_is_that_of_torchvision(factors: tuple[float, ...], adjust: object) -> None:
    raw = _raw(3)
    assert callable(adjust)
    torch.testing.assert_close(_changed(raw, *factors), adjust(raw), atol=1e-4, rtol=0)


def test_normalised_by_hand() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    before = pixels.clone()
    found = normalised(pixels, (0.5, 0.1, 0.0), (0.25, 0.1, 0.5))
    torch.testing.assert_close(found, torch.tensor([-2.0, 1.0, 2.0]).view(1, 3, 1, 1))
    assert torch.equal(pixels, before)
    drawn = torch.randint(256, (4, 3, 5, 6), dtype=torch.uint8, generator=step_generator(0, 0))
    theirs = functional.normalize(drawn / 255, list(IMAGENET_DEFAULT_MEAN), list(IMAGENET_DEFAULT_STD))
    torch.testing.assert_close(normalised(drawn, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD), theirs)


def test_colour_of_each_view_by_hand() -> None:
    """Two one-pixel views, the first twice as bright, the second without saturation."""
    raw = torch.tensor([[0.1, 0.2, 0.3], [1.0, 0.0, 0.0]]).view(2, 3, 1, 1)
    one = torch.ones(2)
    found = recoloured(
        raw,
        torch.tensor([2.0, 1.0]),
        one,
        torch.tensor([1.0, 0.0]),
        one * 0,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    expected = torch.tensor([[0.2, 0.4, 0.6], [0.2989, 0.2989, 0.2989]]).view(2, 3, 1, 1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_colour_stays_between_black_and_white() -> None:
    found = _changed(_raw(2, 0.0, 1.0), 2.0, 2.0, 2.0, turns=0.1)
    assert -1e-6 <= found.min() < 0.01
    assert 0.99 < found.max() <= 1 + 1e-6


def test_a_turn_of_the_hue_keeps_the_luma_and_the_greys() -> None:
    raw, luma = _raw(2), torch.tensor(LUMA).view(3, 1, 1)
    turned = _changed(raw, 1, 1, 1, turns=0.03)
    assert (turned - raw).abs().max() > 0.02
    torch.testing.assert_close((turned * luma).sum(1), (raw * luma).sum(1), atol=1e-4, rtol=0)
    torch.testing.assert_close(_changed(turned, 1, 1, 1, turns=-0.03), raw, atol=1e-4, rtol=0)
    grey = torch.full((1, 3, 2, 2), 0.4)
    torch.testing.assert_close(_changed(grey, 1, 1, 1, turns=0.3), grey, atol=1e-4, rtol=0)


def test_hue_turns_as_that_of_torchvision_does() -> None:
    """Red towards yellow for a positive turn, towards violet for a negative one."""
    red = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1)
    for turns in (0.05, -0.05):
        ours, theirs = _changed(red, 1, 1, 1, turns=turns), functional.adjust_hue(red, turns)
        assert torch.sign(ours[0, 1] - ours[0, 2]) == torch.sign(theirs[0, 1] - theirs[0, 2]) == math.copysign(1, turns)


@pytest.mark.parametrize("shape", [(20, 30), (224, 224)])
def test_erased_boxes_have_the_area_and_ratio_asked_for(shape: tuple[int, int], generator: torch.Generator) -> None:
    height, width = shape
    found = erased(torch.ones(400, 3, height, width), generator, 0.25) == 0
    assert (found == found[:, :1]).all()
    gone = found[:, 0]
    some = gone.any((1, 2))
    assert abs(some.float().mean() - 0.25) < 0.07
    rows, columns = gone.any(2).sum(1)[some], gone.any(1).sum(1)[some]
    areas = gone.sum((1, 2))[some]
    assert (areas == rows * columns).all()  # one whole box each
    shares = areas / (height * width)
    assert 0.01 < shares.min() < 0.06
    assert 0.28 < shares.max() < 0.36
    ratios = (rows / columns).log()
    assert ratios.min() < -0.9
    assert ratios.max() > 0.9
    rim = height // 20  # of both sides
    for edge in (gone[:, :rim], gone[:, -rim:], gone[:, :, :rim], gone[:, :, -rim:]):
        assert edge.any()


def test_erasing_all_or_nothing(generator: torch.Generator) -> None:
    pixels = torch.ones(50, 3, 16, 16)
    assert (erased(pixels, generator, 1.0) == 0).any((1, 2, 3)).all()
    assert (erased(pixels, generator, 0.0) == 1).all()
    assert erased(pixels[:0], generator, 1.0).shape == (0, 3, 16, 16)


def test_mixup_by_hand(generator: torch.Generator) -> None:
    pixels = torch.tensor([0.0, 1.0, 4.0]).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    mixed, lam = mixed_up(pixels, torch.tensor([1, 2, 0]), 0.75, generator)
    assert lam == 0.75
    assert mixed[:, 0, 0, 0].tolist() == [0.25, 1.75, 3.0]


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.9, 1.0])
def test_cutmix_counts_what_is_its_own(lam: float, generator: torch.Generator) -> None:
    pixels = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 11, 7)
    counted = []
    for _ in range(200):
        mixed, own = cut_and_mixed(pixels, torch.tensor([1, 0]), lam, generator)
        assert own == pytest.approx((mixed[0, 0] == 0).double().mean().item())
        torch.testing.assert_close(mixed[0], 1 - mixed[1])
        counted.append(own)
    assert min(counted) >= (lam and lam - 0.06)  # the box is in whole pixels
    assert (pixels == torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)).all()


def test_cutmix_takes_one_box_of_the_partner(generator: torch.Generator) -> None:
    pixels = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 12, 12)
    partner = torch.tensor([2, 3, 1, 0])
    mixed, own = cut_and_mixed(pixels, partner, 0.5, generator)
    changed = mixed[:, 0] != pixels[:, 0]
    assert (changed == changed[0]).all()
    assert changed[0].sum() == changed[0].any(0).sum() * changed[0].any(1).sum() == round((1 - own) * 144)
    for index in range(4):
        assert (mixed[index][:, changed[0]] == partner[index]).all()


def test_the_loss_of_a_mixed_batch_is_that_of_mixed_targets() -> None:
    """Cross-entropy is linear in soft targets: of a species, and of a genus that spreads over its species."""
    logits = torch.tensor([[2.0, 0.5, -1.0], [0.1, 0.2, 0.3]])
    soft = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    partner, lam = torch.tensor([1, 0]), 0.7
    found = mixed_loss(lambda targets: cross_entropy(logits, targets), soft, partner, lam)
    mixed = torch.tensor([[0.7, 0.15, 0.15], [0.3, 0.35, 0.35]])
    torch.testing.assert_close(found, cross_entropy(logits, mixed))
    alone = mixed_loss(lambda targets: cross_entropy(logits, targets), soft, None, 1.0)
    torch.testing.assert_close(alone, cross_entropy(logits, soft))


def test_nothing_asked_for_changes_nothing(generator: torch.Generator) -> None:
    pixels = _raw(4)
    found, partner, lam = Augment(colour=0, erasing=0, mixup=0, cutmix=0)(pixels, generator)
    assert found is pixels
    assert partner is None
    assert lam == 1.0


@pytest.mark.parametrize("change", [{"colour": 0.5}, {"erasing": 1.0}, {"mixup": 0.5}, {"cutmix": 1.0}, ALL])
def test_a_batch_depends_on_the_generator_alone(change: dict[str, float]) -> None:
    augment = Augment(**{"colour": 0.0, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0, **change})  # type: ignore[arg-type]
    pixels = _raw(6)
    before = pixels.clone()
    first, again, other = (augment(pixels, step_generator(7, step)) for step in (3, 3, 4))
    assert torch.equal(pixels, before)
    assert torch.equal(first[0], again[0])
    assert first[2] == again[2]
    assert not torch.equal(first[0], other[0])
    assert first[0].dtype == torch.float32
    if first[1] is not None:
        assert again[1] is not None
        assert torch.equal(first[1], again[1])
        assert first[1].dtype == torch.int64
        assert first[1].sort().values.tolist() == list(range(6))


def test_views_differ_in_colour_within_the_strength(generator: torch.Generator) -> None:
    grey = torch.full((200, 3, 4, 4), 0.5)
    found, _, _ = Augment(colour=0.2, erasing=0, mixup=0, cutmix=0)((grey - MEAN) / STD, generator)
    brightness = (found * STD + MEAN)[:, 0, 0, 0] / 0.5
    assert 0.8 <= brightness.min() < 0.82
    assert 1.18 < brightness.max() <= 1.2


def test_mixup_and_cutmix_take_turns(generator: torch.Generator) -> None:
    pixels = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 16, 16)
    augment = Augment(colour=0, erasing=0, mixup=1.0, cutmix=1.0)
    blended, lams = 0, []
    for _ in range(300):
        found, partner, lam = augment(pixels, generator)
        assert partner is not None
        share = (1 - found[0]).mean().item() if partner[0] == 1 else lam
        assert share == pytest.approx(lam, abs=1e-6)
        blended += bool(((found > 0) & (found < 1)).any())
        lams.append(lam)
    # a permutation of two leaves them alone half the time, so a quarter is seen to blend
    assert 45 < blended < 105
    assert 0.4 < sum(lams) / 300 < 0.8


def test_colours_keep_their_bits_under_autocast() -> None:
    augment, pixels = Augment(colour=0.5, erasing=0, mixup=0, cutmix=0), (_raw(4) - MEAN) / STD
    plain, _, _ = augment(pixels, step_generator(0, 0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, _, _ = augment(pixels, step_generator(0, 0))
    assert torch.equal(plain, cast)


def test_steps_and_processes_have_generators_of_their_own() -> None:
    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 10**9, 63)]
    drawn = [torch.rand(1, generator=step_generator(seed, step, rank=rank)).item() for seed, step, rank in keys]
    assert len(set(drawn)) == len(keys)
    assert torch.rand(1, generator=step_generator(*keys[0][:2])).item() == drawn[0]
