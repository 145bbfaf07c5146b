"""Grounding DINO (Apache-2.0; Liu et al. 2023) finds what words name; its boxes prompt SAM for masks."""

from typing import Any

import numpy as np

from instar.detectors import Recipe
from instar.detectors.zero_shot import BoxPrompted, Kind, Number, Prompts, Text, described_with_sam, folder_of
from instar.pretrained import device, pretrained, pretrained_model

FAMILY = "grounding_dino_sam"
LICENCE = "Apache-2.0"

_OPTIONS: dict[str, Kind] = {
    "prompt": Text(),
    "box_threshold": Number(0, 1),
    "text_threshold": Number(0, 1),
    "largest_share": Number(0, 1),
    "sam_model": Text(),
}


def describe(recipe: Recipe) -> dict[str, Any]:
    """What detector.json says: the models with their sha256, the prompt and the thresholds.

    See ``described_with_sam``. ``image_px`` is the longer side that Grounding DINO sees a picture at.

    Raises:
        InputError: if an option is wrong or a model is missing.
    """
    return described_with_sam(FAMILY, recipe, _OPTIONS, f"{LICENCE} (Grounding DINO)")


class GroundingDinoSam(BoxPrompted):
    """Grounding DINO's boxes with its own scores, and SAM's masks of them.

    ``text_threshold`` decides only which words of the prompt a box is called by, so with one thing asked for it
    changes nothing.
    """

    def __init__(self, description: dict[str, Any]) -> None:
        from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor

        super().__init__(description)
        folder = folder_of(description, "boxes")
        self._model = pretrained_model(GroundingDinoForObjectDetection, folder)
        self._processor = pretrained(GroundingDinoProcessor, folder)

    def _prompts(self, pictures: list[np.ndarray], floor: float) -> list[Prompts]:
        # one size at a time: padding to the largest of a batch would change what is found in the others
        sizes: dict[tuple[int, ...], list[int]] = {}
        for n, picture in enumerate(pictures):
            sizes.setdefault(picture.shape, []).append(n)
        found: dict[int, Prompts] = {}
        for numbers in sizes.values():
            found |= zip(numbers, self._same_size([pictures[n] for n in numbers], floor), strict=True)
        return [found[n] for n in range(len(pictures))]

    def _same_size(self, pictures: list[np.ndarray], floor: float) -> list[Prompts]:
        import torch

        # lower case and a full stop at the end are what the model was trained with
        text = self.options["prompt"].lower().strip().rstrip(".") + "."
        side = {"shortest_edge": self.image_px, "longest_edge": self.image_px}
        given = self._processor(
            images=pictures, text=[text] * len(pictures), size=side, return_tensors="pt", padding=True
        ).to(device())
        with torch.inference_mode():
            told = self._model(**given)
        found = self._processor.post_process_grounded_object_detection(
            told,
            given["input_ids"],
            threshold=max(floor, self.options["box_threshold"]),
            text_threshold=self.options["text_threshold"],
            target_sizes=[picture.shape[:2] for picture in pictures],
        )
        answers = [(one["boxes"].float().cpu().numpy(), one["scores"].float().cpu().numpy()) for one in found]
        queries = self._model.config.num_queries
        return [Prompts(boxes, scores, full=len(boxes) >= queries) for boxes, scores in answers]
