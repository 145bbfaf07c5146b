"""Tests of instar.classifier.place and of the network around it."""

import itertools

import numpy as np
import pytest
import torch

from instar.classifier.network import Network, parameter_groups
from instar.classifier.place import PlaceEncoder, bounding_box, degrees_outside, fourier_features, jitter

UNKNOWN = torch.full((1, 2), float("nan"))


class Backbone(torch.nn.Module):
    num_features = 4

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.mean((2, 3)) @ torch.ones(3, 4)


def network(place: str) -> Network:
    torch.manual_seed(0)
    found = Network(Backbone(), 3, place=place)
    if place != "none":
        torch.nn.init.normal_(found.effect.weight)
    return found.eval()


def test_no_places() -> None:
    assert fourier_features(torch.zeros(0, 2)).shape == (0, 39)


def test_the_equator_by_hand() -> None:
    found = fourier_features(torch.tensor([[0.0, 90.0]]))[0]
    torch.testing.assert_close(found[:3], torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)
    # y = 1: sin(pi 2^k) = 0 at every scale; cos(pi) = -1 at the first, 1 at the others
    torch.testing.assert_close(found[9:15], torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[27:33], torch.tensor([-1.0, 1, 1, 1, 1, 1]), atol=1e-4, rtol=0)


def test_longitude_wraps() -> None:
    east, west = fourier_features(torch.tensor([[10.0, 180.0], [10.0, -180.0]]))
    torch.testing.assert_close(east, west, atol=1e-4, rtol=0)
    near = fourier_features(torch.tensor([[10.0, 179.9], [10.0, -179.9], [10.0, 170.0]]))
    assert (near[0] - near[1]).norm() < 0.2 * (near[0] - near[2]).norm()


@pytest.mark.parametrize("pole", [90.0, -90.0])
def test_a_pole_is_one_place(pole: float) -> None:
    one, other = fourier_features(torch.tensor([[pole, 0.0], [pole, 123.0]]))
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_jitter_moves_within_the_noise_and_wraps() -> None:
    rng = np.random.default_rng(0)
    places = np.array([jitter(rng, np.array([89.8, 179.8], np.float32), noise_deg=0.5, drop=0.0) for _ in range(300)])
    assert places[:, 0].max() == 90.0
    assert places[:, 0].min() >= 89.3
    assert ((places[:, 1] > 179.29) | (places[:, 1] < -179.69)).all()
    assert (places[:, 1] < 0).any()
    assert places.dtype == np.float32


def test_jitter_drops_its_share_and_keeps_the_unknown() -> None:
    rng = np.random.default_rng(0)
    dropped = [np.isnan(jitter(rng, np.array([1, 2], np.float32), noise_deg=0.5, drop=0.5)).all() for _ in range(1000)]
    assert 0.45 < np.mean(dropped) < 0.55
    assert np.isnan(jitter(rng, np.full(2, np.nan, np.float32), noise_deg=0.5, drop=0.0)).all()


def test_the_unknown_place_is_learnt_and_breaks_no_gradient() -> None:
    encoder = PlaceEncoder()
    encoder(torch.cat([UNKNOWN, torch.tensor([[40.0, -100.0]])])).sum().backward()
    assert encoder.unknown.grad is not None
    torch.testing.assert_close(encoder.unknown.grad, torch.ones(128))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())


def test_a_half_known_place_is_unknown() -> None:
    encoder = PlaceEncoder()
    half = torch.tensor([[40.0, float("nan")]])
    torch.testing.assert_close(encoder(half), encoder(UNKNOWN))


def test_a_late_place_moves_logits_by_the_same_whatever_is_seen() -> None:
    late, pixels = network("late"), torch.rand(5, 3, 8, 8)
    places = torch.tensor([[40.0, -100.0]]).expand(5, 2)
    moved = late(pixels, places) - late(pixels, UNKNOWN.expand(5, 2))
    torch.testing.assert_close(moved, moved[:1].expand(5, 3))
    assert moved.abs().max() > 0.1


def test_a_fused_place_moves_what_is_seen() -> None:
    fused, pixels = network("fused"), torch.rand(5, 3, 8, 8)
    places = torch.tensor([[40.0, -100.0]]).expand(5, 2)
    moved = fused(pixels, places) - fused(pixels, UNKNOWN.expand(5, 2))
    assert not torch.allclose(moved, moved[:1].expand(5, 3))


def test_without_place_nothing_of_it_matters() -> None:
    plain, pixels = network("none"), torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(plain(pixels, torch.zeros(2, 2)), plain(pixels, UNKNOWN.expand(2, 2)))
    assert all(name.startswith(("backbone.", "head.")) for name in plain.state_dict())


@pytest.mark.parametrize("place", ["late", "fused"])
def test_a_place_has_no_effect_at_first(place: str) -> None:
    fresh, pixels = Network(Backbone(), 3, place=place), torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(fresh(pixels, torch.zeros(2, 2)), fresh(pixels, UNKNOWN.expand(2, 2)))


def test_layers_nearer_to_the_input_learn_slower() -> None:
    import timm

    backbone = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    whole = Network(backbone, 3, place="late")
    groups = parameter_groups(whole, weight_decay=0.05, layer_decay=0.5)
    assert sum(len(group["params"]) for group in groups) == len(list(whole.parameters()))
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    blocks = [scale[id(block.attn.qkv.weight)] for block in backbone.blocks]
    assert all(later == pytest.approx(2 * earlier) for earlier, later in itertools.pairwise(blocks))
    assert blocks[-1] <= 0.5
    assert scale[id(whole.head.weight)] == scale[id(whole.effect.weight)] == 1.0
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert decays[id(whole.head.weight)] == 0.05
    assert decays[id(whole.head.bias)] == decays[id(backbone.norm.weight)] == 0.0


@pytest.mark.parametrize(
    ("model", "excepted"),
    [
        ("vit_small_patch16_dinov3", {"cls_token", "reg_token"}),
        ("eva02_tiny_patch14_224", {"cls_token", "pos_embed"}),
        ("vit_tiny_patch16_224", {"cls_token", "pos_embed"}),
        ("swin_tiny_patch4_window7_224", {"layers.0.blocks.0.attn.relative_position_bias_table"}),
        ("test_resnet", set()),
    ],
)
def test_tokens_and_position_embeddings_do_not_decay(model: str, excepted: set[str]) -> None:
    import timm

    with torch.device("meta"):
        whole = Network(timm.create_model(model, num_classes=0), 3, place="none")
    named = {id(parameter): name for name, parameter in whole.backbone.named_parameters()}
    groups = parameter_groups(whole, weight_decay=0.05, layer_decay=0.5)
    still = {named.get(id(p)) for group in groups if group["weight_decay"] == 0.0 for p in group["params"]}
    assert excepted <= still
    matrices = {name for name, p in whole.backbone.named_parameters() if name.endswith(".weight") and p.ndim > 1}
    assert matrices
    assert not matrices & still


def test_the_box_of_no_place() -> None:
    assert bounding_box(np.zeros((0, 2), np.float32)) is None
    assert bounding_box(np.array([[np.nan, 4.0], [3.0, np.nan]], np.float32)) is None


@pytest.mark.parametrize(
    ("places", "box"),
    [
        ([[10.0, 20.0]], (10.0, 20.0, 10.0, 20.0)),
        ([[10.0, 20.0], [-5.0, -30.5], [np.nan, np.nan], [0.0, 40.0]], (-5.0, -30.5, 10.0, 40.0)),
        ([[1.0, 170.0], [2.0, -175.0], [3.0, 179.0]], (1.0, 170.0, 3.0, -175.0)),  # across 180°
    ],
)
def test_the_box_of_places_by_hand(places: list[list[float]], box: tuple[float, ...]) -> None:
    assert bounding_box(np.array(places, np.float32)) == box


@pytest.mark.parametrize(
    ("place", "outside"),
    [
        ((0.0, 0.0), 0),
        ((10.0, 20.0), 0),
        ((25.0, 0.0), 15),
        ((-14.0, 23.0), 4),
        ((0.0, 32.5), 12.5),
        ((0.0, -179.0), 159),
    ],
)
def test_degrees_outside_by_hand(place: tuple[float, float], outside: float) -> None:
    assert degrees_outside(place, (-10.0, -20.0, 10.0, 20.0)) == outside


@pytest.mark.parametrize(("longitude", "outside"), [(175.0, 0), (-178.0, 0), (180.0, 0), (160.0, 10), (-170.0, 5)])
def test_degrees_outside_a_box_across_180_degrees(longitude: float, outside: float) -> None:
    assert degrees_outside((0.0, longitude), (-10.0, 170.0, 10.0, -175.0)) == outside
