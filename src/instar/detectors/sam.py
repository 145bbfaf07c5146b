"""Masks from boxes by SAM 2.1 (Apache-2.0; Ravi et al. 2024), the classes of transformers."""

from pathlib import Path

import numpy as np

from instar.masks import Masks, from_bitmaps, joined_masks
from instar.pretrained import device, pretrained, pretrained_model

#: Boxes through the mask decoder at a time; their masks at the picture's size bound the memory.
_CHUNK = 64


class Sam:
    """A Sam2Model and its processor, loaded from a folder.

    Args:
        folder: as the hub has it.

    Raises:
        InputError: if the folder holds no SAM 2.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import Sam2Model, Sam2Processor

        self._device = device()
        self._model = pretrained_model(Sam2Model, folder)
        self._processor = pretrained(Sam2Processor, folder)

    def masks(self, picture: np.ndarray, boxes_xyxy: np.ndarray) -> tuple[Masks, np.ndarray]:
        """One mask for each box; the picture is encoded once, and not at all where there are no boxes.

        Args:
            picture: uint8, shape (height, width, 3), RGB.
            boxes_xyxy: float, shape (n, 4), pixels of the picture.

        Returns:
            n masks in pixels of the picture, some perhaps empty; and the IoU that SAM predicts of each: float32, shape
            (n,), in [0, 1].
        """
        import torch

        parts: list[Masks] = []
        ious: list[np.ndarray] = [np.zeros(0, np.float32)]
        if not len(boxes_xyxy):
            return joined_masks(parts), ious[0]
        given = self._processor(images=picture, return_tensors="pt").to(self._device)
        size = [[*picture.shape[:2]]]  # as numbers, since the processor works with boxes on the CPU
        with torch.inference_mode():
            encoded = self._model.get_image_embeddings(given["pixel_values"])
            for start in range(0, len(boxes_xyxy), _CHUNK):
                boxes = [boxes_xyxy[start : start + _CHUNK].tolist()]
                prompts = self._processor(input_boxes=boxes, original_sizes=size, return_tensors="pt").to(self._device)
                told = self._model(image_embeddings=encoded, input_boxes=prompts["input_boxes"], multimask_output=False)
                drawn = self._processor.post_process_masks(told.pred_masks, size)[0][:, 0]
                parts.append(_masks(drawn.cpu().numpy()))
                ious.append(told.iou_scores[0, :, 0].float().clamp(0, 1).cpu().numpy())
        return joined_masks(parts), np.concatenate(ious)


def _masks(drawn: np.ndarray) -> Masks:
    """Masks from bool, shape (n, height, width); only the part of the picture that each fills is looked through."""
    pieces, corners = [], []
    for one in drawn:
        rows, columns = np.flatnonzero(one.any(axis=1)), np.flatnonzero(one.any(axis=0))
        top, left = (rows[0], columns[0]) if len(rows) else (0, 0)
        pieces.append(one[top : rows[-1] + 1, left : columns[-1] + 1] if len(rows) else one[:0, :0])
        corners.append((int(left), int(top)))
    return from_bitmaps(pieces, corners)
