"""Augmentation of whole batches on the device: colour, erasing, MixUp and CutMix.

Every random number of these comes from one ``torch.Generator``, so that a run that is resumed at a step goes on as it
would have (``step_generator``). Geometry is of each crop (``views``), and so is AutoAugment.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from instar.classifier.views import PADDING_RGB, channels_first

RGB = tuple[float, float, float]

#: Most that ``colour`` = 1 changes brightness, contrast and saturation, as a share, and hue, in turns. Hue tells
#: species apart, so it moves little.
JITTER = 1.0
HUE_TURNS = 0.05
#: An erased box: share of the view's area, and height by width (Zhong et al. 2020; timm's values).
ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = (0.3, 1 / 0.3)
#: Of red, green and blue in luma (ITU-R BT.601), as torchvision and PIL take them.
LUMA = (0.2989, 0.587, 0.114)

Augmented = tuple[torch.Tensor, torch.Tensor | None, float]


def step_generator(seed: int, step: int, *, rank: int = 0) -> torch.Generator:
    """A generator on the CPU for one step of one process; its stream depends on these three alone."""
    state = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def normalised(pixels: torch.Tensor, mean: RGB, std: RGB) -> torch.Tensor:
    """float32 of uint8 (n, 3, height, width), less the mean and by the standard deviation of RGB in [0, 1].

    In place after the first step: on a CPU three times as fast as the formula written out, which makes four batches.
    """
    middle, scale = (torch.tensor(values, device=pixels.device).mul_(255).view(3, 1, 1) for values in (mean, std))
    return pixels.float().sub_(middle).div_(scale)


class Augment:
    """Changes a normalised batch: each view's colour, a box erased, and pairs of views mixed.

    Args:
        colour: strength of the change of brightness, contrast, saturation and hue, in [0, 1]; 0 for none.
        erasing: probability that a box of a view is set to the mean colour.
        mixup: alpha of the Beta distribution of MixUp (Zhang et al. 2018); 0 for none.
        cutmix: the same of CutMix (Yun et al. 2019). Where both are above 0, each batch gets one of them by equal
            chance.
        mean: of RGB in [0, 1] that the batch was normalised with.
        std: likewise.
    """

    def __init__(
        self,
        *,
        colour: float,
        erasing: float,
        mixup: float,
        cutmix: float,
        mean: RGB = IMAGENET_DEFAULT_MEAN,
        std: RGB = IMAGENET_DEFAULT_STD,
    ) -> None:
        self._colour, self._erasing = colour, erasing
        self._mixes = [(mix, alpha) for mix, alpha in ((mixed_up, mixup), (cut_and_mixed, cutmix)) if alpha > 0]
        self._mean, self._std = mean, std

    @torch.no_grad()
    def __call__(self, pixels: torch.Tensor, generator: torch.Generator) -> Augmented:
        """Augment a batch.

        Args:
            pixels: float32, shape (n, 3, height, width), normalised; is not changed.
            generator: on the CPU, so that the same is drawn on every device.

        Returns:
            The new pixels; the partner of each view, int64 (n,) on their device, or None where nothing is mixed; and
            lam in [0, 1], the share of its own. The loss is ``mixed_loss``. A mixed view keeps its own place: a mean of
            two places is none.
        """
        with torch.autocast(pixels.device.type, enabled=False):  # half the bits would show in the colours
            if self._colour:
                pixels = self._recoloured(pixels, generator)
            if self._erasing:
                pixels = erased(pixels, generator, self._erasing)
            if not self._mixes:
                return pixels, None, 1.0
            mix, alpha = self._mixes[int(torch.randint(len(self._mixes), (), generator=generator))]
            partner = torch.randperm(len(pixels), generator=generator).to(pixels.device)
            pixels, lam = mix(pixels, partner, _beta(alpha, generator), generator)
            return pixels, partner, lam

    def _recoloured(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        amounts = 2 * torch.rand(4, len(pixels), generator=generator) - 1
        brightness, contrast, saturation = 1 + self._colour * JITTER * amounts[:3].to(pixels.device)
        turns = self._colour * HUE_TURNS * amounts[3].to(pixels.device)
        return recoloured(pixels, brightness, contrast, saturation, turns, mean=self._mean, std=self._std)


class AutoAugmented:
    """AutoAugment's policies for ImageNet (Cubuk et al. 2019), by torchvision, on views as workers make them."""

    def __init__(self) -> None:
        from torchvision.transforms.v2 import AutoAugment

        self._change = AutoAugment(fill=list(PADDING_RGB))

    def __call__(self, rng: np.random.Generator, view: np.ndarray) -> np.ndarray:
        """A view changed by one policy, uint8 (px, px, 3); ``rng`` alone decides which, and how."""
        # torchvision draws from torch's own stream
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(rng.integers(2**62)))
            changed: torch.Tensor = self._change(torch.from_numpy(channels_first(view)))
        return changed.permute(1, 2, 0).contiguous().numpy()


def mixed_loss(
    loss: Callable[[torch.Tensor], torch.Tensor], targets: torch.Tensor, partner: torch.Tensor | None, lam: float
) -> torch.Tensor:
    """The loss of a mixed batch: ``lam`` of that to its own targets and the rest of that to its partners'.

    Args:
        loss: of the batch's output to targets; right for any loss, since two losses are mixed and never two targets.
        targets: shape (n, …): classes, or a distribution over them.
        partner: int64, shape (n,), or None.
        lam: share of its own.
    """
    if partner is None:
        return loss(targets)
    return lam * loss(targets) + (1 - lam) * loss(targets[partner])


def recoloured(
    pixels: torch.Tensor,
    brightness: torch.Tensor,
    contrast: torch.Tensor,
    saturation: torch.Tensor,
    turns: torch.Tensor,
    *,
    mean: RGB,
    std: RGB,
) -> torch.Tensor:
    """Change brightness, contrast, saturation and hue of each view, in this order.

    Each is linear in RGB, so that all four are one matrix for each view. The first three are torchvision's; hue turns
    about the axis of greys and keeps the luma, where torchvision's goes through HSV.

    Args:
        pixels: float32, shape (n, 3, height, width), normalised.
        brightness: float32, shape (n,), factors; so are ``contrast`` and ``saturation``; 1 changes nothing.
        contrast: about the mean luma of the view.
        saturation: about the luma of each pixel.
        turns: float32, shape (n,), of the hue; 0 changes nothing.
        mean: of RGB in [0, 1], that the pixels were normalised with.
        std: likewise.

    Returns:
        float32, of the same shape, in what black and white are normalised to.
    """
    device, count = pixels.device, len(pixels)
    to_raw, black = torch.tensor(std, device=device), torch.tensor(mean, device=device)
    luma = torch.tensor(LUMA, device=device)
    luma = (luma / luma.sum()).expand(3, 3)  # every row gives the luma
    factor = brightness * contrast
    mean_luma = (pixels.mean((2, 3)) * to_raw + black) @ luma[0] * brightness
    matrix = _hue_turn(turns, luma) @ torch.lerp(luma, torch.eye(3, device=device), saturation.view(-1, 1, 1))
    matrix = factor.view(-1, 1, 1) * matrix
    # greys stay greys in the last two, so the shift of the contrast passes through
    shift = ((1 - contrast) * mean_luma).view(-1, 1)
    normalised_matrix = matrix * to_raw / to_raw.view(3, 1)
    normalised_shift = (matrix @ black + shift - black) / to_raw
    flat = torch.baddbmm(normalised_shift.unsqueeze(2), normalised_matrix, pixels.reshape(count, 3, -1))
    return flat.view_as(pixels).clamp_((-black / to_raw).view(3, 1, 1), ((1 - black) / to_raw).view(3, 1, 1))


def _hue_turn(turns: torch.Tensor, luma: torch.Tensor) -> torch.Tensor:
    """float32, shape (n, 3, 3): colour turned about its luma, in the plane of the colours without luma."""
    chroma = torch.eye(3, device=luma.device) - luma
    # an orthonormal basis of the directions of equal luma
    first = torch.stack([luma[0, 1], -luma[0, 0], torch.zeros_like(luma[0, 0])])
    first = first / first.norm()
    second = torch.linalg.cross(luma[0] / luma[0].norm(), first)
    quarter = (torch.outer(second, first) - torch.outer(first, second)) @ chroma
    angle = (2 * math.pi * turns).view(-1, 1, 1)
    return luma + angle.cos() * chroma + angle.sin() * quarter


def erased(pixels: torch.Tensor, generator: torch.Generator, probability: float) -> torch.Tensor:
    """Set a box of some views to 0, the mean colour (Zhong et al. 2020).

    Args:
        pixels: float, shape (n, 3, height, width), normalised.
        generator: on the CPU.
        probability: that a view has a box.
    """
    count, _, height, width = pixels.shape
    draws = torch.rand(5, count, generator=generator)
    area = height * width * (ERASED_AREA[0] + draws[1] * (ERASED_AREA[1] - ERASED_AREA[0]))
    low, high = math.log(ERASED_RATIO[0]), math.log(ERASED_RATIO[1])
    ratio = torch.exp(low + draws[2] * (high - low))
    box_height = torch.sqrt(area * ratio).round().clamp(1, height)
    box_width = torch.sqrt(area / ratio).round().clamp(1, width)
    top, left = (draws[3] * (height - box_height + 1)).floor(), (draws[4] * (width - box_width + 1)).floor()
    box_height = box_height * (draws[0] < probability)  # no row is within a box that is none
    edges = torch.stack([top, top + box_height, left, left + box_width]).to(pixels.device).view(4, count, 1)
    rows, columns = (torch.arange(size, device=pixels.device) for size in (height, width))
    in_rows = (edges[0] <= rows) & (rows < edges[1])
    in_columns = (edges[2] <= columns) & (columns < edges[3])
    return pixels.masked_fill((in_rows.unsqueeze(2) & in_columns.unsqueeze(1)).unsqueeze(1), 0.0)


def mixed_up(
    pixels: torch.Tensor, partner: torch.Tensor, lam: float, generator: torch.Generator
) -> tuple[torch.Tensor, float]:
    """MixUp: the weighted mean of each view and its partner, with the share of its own; draws nothing."""
    return torch.lerp(pixels[partner], pixels, lam), lam


def cut_and_mixed(
    pixels: torch.Tensor, partner: torch.Tensor, lam: float, generator: torch.Generator
) -> tuple[torch.Tensor, float]:
    """CutMix: one box of each view from its partner.

    The box has 1 - ``lam`` of the area and is cut off where it reaches beyond the view.

    Returns:
        The pixels, and the share of them that is its own, as counted.
    """
    height, width = pixels.shape[2:]
    side = math.sqrt(1 - lam)
    top, bottom = _span(height, side, generator)
    left, right = _span(width, side, generator)
    pixels = pixels.clone()
    pixels[:, :, top:bottom, left:right] = pixels[partner, :, top:bottom, left:right]
    return pixels, 1 - (bottom - top) * (right - left) / (height * width)


def _span(size: int, share: float, generator: torch.Generator) -> tuple[int, int]:
    """A span of a share of a length about a point anywhere on it, cut off at the ends."""
    centre, length = int(torch.randint(size, (), generator=generator)), round(size * share)
    start = centre - length // 2
    return max(0, start), min(size, start + length)


def _beta(alpha: float, generator: torch.Generator) -> float:
    # torch's Beta takes no generator
    seed = int(torch.randint(2**62, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))
