"""Florence-2 (MIT; Xiao et al. 2023) writes down the boxes of what words name; they prompt SAM for masks."""

from typing import Any

import numpy as np

from instar.detectors import Recipe
from instar.detectors.zero_shot import (
    BoxPrompted,
    Kind,
    Number,
    Prompts,
    Score,
    Text,
    checked,
    described_with_sam,
    folder_of,
)
from instar.pretrained import device, pretrained, pretrained_model

FAMILY = "florence2_sam"
LICENCE = "MIT"

#: A box is four words of its own; what it is called by comes on top.
_BOX_TOKENS = 4
_TASK = "<OPEN_VOCABULARY_DETECTION>"
_OPTIONS: dict[str, Kind] = {
    "prompt": Text(),
    "beams": Number(1, 16, whole=True),
    "max_tokens": Number(8, 4096, whole=True),
    "largest_share": Number(0, 1),
    "score": Score(),
    "sam_model": Text(),
}


def describe(recipe: Recipe) -> dict[str, Any]:
    """What detector.json says: the models with their sha256, the prompt and how it is answered.

    Its processor decides the side it sees a picture at, so ``image_px`` means nothing here.

    Raises:
        InputError: if an option is wrong or a model is missing.
    """
    most = checked(recipe.options, _OPTIONS, FAMILY)["max_tokens"] // _BOX_TOKENS
    return described_with_sam(FAMILY, recipe, _OPTIONS, f"{LICENCE} (Florence-2)", most=most)


class Florence2Sam(BoxPrompted):
    """Florence-2's boxes, which have no confidence, and SAM's masks of them; see the option ``score``."""

    def __init__(self, description: dict[str, Any]) -> None:
        from transformers import Florence2ForConditionalGeneration, Florence2Processor

        super().__init__(description)
        folder = folder_of(description, "boxes")
        self._model = pretrained_model(Florence2ForConditionalGeneration, folder)
        self._processor = pretrained(Florence2Processor, folder)

    def _prompts(self, pictures: list[np.ndarray], floor: float) -> list[Prompts]:
        import torch

        text = _TASK + self.options["prompt"].removeprefix(_TASK).strip()
        given = self._processor(images=pictures, text=[text] * len(pictures), return_tensors="pt").to(device())
        limit = self.options["max_tokens"]
        with torch.inference_mode():
            tokens = self._model.generate(
                **given, max_new_tokens=limit, do_sample=False, num_beams=self.options["beams"], early_stopping=False
            )
        written = self._processor.batch_decode(tokens, skip_special_tokens=False)
        # the first token is given, and at the limit the last one is made to be the end
        full = ((tokens != self._processor.tokenizer.pad_token_id).sum(dim=1) > limit).tolist()
        sizes = [picture.shape[:2] for picture in pictures]
        return [self._read(*one) for one in zip(written, full, sizes, strict=True)]

    def _read(self, written: str, full: bool, size: tuple[int, int]) -> Prompts:
        """Boxes from what the model wrote; of an outline the box around it."""
        height, width = size
        told = self._processor.post_process_generation(written, task=_TASK, image_size=(width, height))[_TASK]
        rings = [np.array([xy for ring in rings for xy in ring]).reshape(-1, 2) for rings in told["polygons"]]
        around = [[*ring.min(axis=0), *ring.max(axis=0)] for ring in rings if len(ring)]
        boxes = np.array([*told["bboxes"], *around], np.float64).reshape(-1, 4)
        return Prompts(boxes, None, full)
