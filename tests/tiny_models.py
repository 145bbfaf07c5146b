"""Folders as the hub has them, of the real classes of transformers with tiny configurations and random weights."""

from pathlib import Path
from typing import Any

import torch

#: Sides that the tiny image processors bring pictures to.
SAM_PX = 128
FLORENCE_PX = 64


def _saved(folder: Path, *parts: Any) -> Path:
    for part in parts:
        part.eval() if isinstance(part, torch.nn.Module) else None
        part.save_pretrained(folder)
    return folder / "model.safetensors"


def sam(folder: Path) -> Path:
    """A Sam2 of 128 px."""
    from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model, Sam2Processor

    backbone = {
        "model_type": "sam2_hiera_det_model",
        "image_size": [SAM_PX, SAM_PX],
        "hidden_size": 8,
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 4, 4, 4],
        "global_attention_blocks": [3],  # not the first of its stage, for which the model fails
    }
    sizes = [[SAM_PX // side, SAM_PX // side] for side in (4, 8, 16)]
    torch.manual_seed(0)
    config = Sam2Config(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": sizes,
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": SAM_PX, "patch_size": 16},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )
    images = Sam2ImageProcessor(
        size={"height": SAM_PX, "width": SAM_PX}, mask_size={"height": SAM_PX // 4, "width": SAM_PX // 4}
    )
    return _saved(folder, Sam2Model(config), Sam2Processor(images))


def grounding_dino(folder: Path) -> Path:
    """A Grounding DINO of 20 queries whose tokenizer knows a few words."""
    from transformers import (
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
    )

    # the model looks for the special tokens by the numbers that BERT gives them
    words = ["[PAD]", *(f"[unused{n}]" for n in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [f"[unused{n}]" for n in range(99, 1007)][: 1012 - len(words)]
    words += [".", "[unused_]", "?", "insect", "leg", "wing"]
    words += [f"[more{n}]" for n in range(1036 - len(words))]
    tokenizer = BertTokenizer(vocab={word: n for n, word in enumerate(words)})
    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config={
            "model_type": "swin",
            "image_size": 128,
            "embed_dim": 8,
            "depths": [1, 1, 1, 1],
            "num_heads": [1, 1, 2, 2],
            "window_size": 4,
            "out_indices": [2, 3, 4],
        },
        text_config={
            "model_type": "bert",
            "vocab_size": len(words),
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
        },
        num_queries=20,
        d_model=32,
        encoder_layers=1,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_layers=2,  # whose heads are tied, which takes two
        decoder_ffn_dim=32,
        decoder_attention_heads=2,
    )
    images = GroundingDinoImageProcessor()
    return _saved(folder, GroundingDinoForObjectDetection(config), GroundingDinoProcessor(images, tokenizer))


def florence2(folder: Path) -> Path:
    """A Florence-2 of 64 px whose tokenizer knows single bytes and the places."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import (
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
        RobertaTokenizer,
    )

    places = [f"<loc_{n}>" for n in range(1000)]
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    vocabulary = {word: n for n, word in enumerate([*special, *sorted(ByteLevel.alphabet())])}
    tokenizer = RobertaTokenizer(vocab=vocabulary, merges=[], extra_special_tokens={"image_token": "<image>"})
    tokenizer.add_tokens(places)
    images = CLIPImageProcessor(
        size={"height": FLORENCE_PX, "width": FLORENCE_PX},
        do_center_crop=False,
        image_seq_length=(FLORENCE_PX // 32) ** 2 + 1,  # and one for the whole picture
    )
    torch.manual_seed(0)
    config = Florence2Config(
        vision_config={
            "depths": [1, 1, 1, 1],
            "embed_dim": [8, 8, 16, 16],
            "num_heads": [1, 1, 2, 2],
            "num_groups": [1, 1, 2, 2],
            "window_size": 4,
            "projection_dim": 16,
        },
        text_config={
            "model_type": "bart",
            "vocab_size": len(tokenizer),
            "d_model": 16,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 16,
            "decoder_ffn_dim": 16,
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 2,
        },
        image_token_id=tokenizer.image_token_id,
    )
    processor = Florence2Processor(images, tokenizer, post_processor_config={"description_with_bboxes_or_polygons": {}})
    return _saved(folder, Florence2ForConditionalGeneration(config).half(), processor)  # as the hub keeps it
