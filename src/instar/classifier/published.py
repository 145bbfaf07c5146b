"""What is published of the models that have a preset: size, licence of the weights, source."""

from dataclasses import dataclass

_DINOV3 = "https://github.com/facebookresearch/dinov3"
_EVA02 = "https://github.com/baaivision/EVA/tree/master/EVA-02/asuka"
_EFFICIENTNETV2 = "https://arxiv.org/abs/2104.00298"
_CONVNEXTV2 = "https://github.com/facebookresearch/ConvNeXt-V2"
_SWIN = "https://github.com/microsoft/Swin-Transformer"
_AUGREG = "https://github.com/google-research/vision_transformer"
_OPENCLIP = "https://huggingface.co/timm/vit_huge_patch14_clip_336.laion2b_ft_in12k_in1k"
_CONVNEXT = "https://github.com/facebookresearch/ConvNeXt"
_MEGADESCRIPTOR = "https://huggingface.co/BVRA/MegaDescriptor-L-384"
_TIMM = "https://github.com/huggingface/pytorch-image-models"


@dataclass(frozen=True)
class Published:
    """Facts about a model, as its authors give them."""

    parameters: float  # millions
    head: int  # classes of the head that these parameters include; 0 for a backbone alone
    licence: str  # of the weights
    source: str  # where this stands
    note: str = ""


#: By the name in timm with the tag of the weights; without one where a preset starts from random weights.
PUBLISHED = {
    "vit_small_patch16_dinov3.lvd1689m": Published(21, 0, "DINOv3 License", _DINOV3),
    "vit_small_plus_patch16_dinov3.lvd1689m": Published(
        29,
        0,
        "DINOv3 License",
        _DINOV3,
        note="timm counts 28.7 million, and the authors' table says 29; the study of ants says about 40",
    ),
    "vit_base_patch16_dinov3.lvd1689m": Published(86, 0, "DINOv3 License", _DINOV3),
    "vit_large_patch16_dinov3.lvd1689m": Published(300, 0, "DINOv3 License", _DINOV3),
    "eva02_tiny_patch14_224.mim_in22k": Published(6, 0, "MIT", _EVA02),
    "eva02_small_patch14_224.mim_in22k": Published(22, 0, "MIT", _EVA02),
    "eva02_base_patch14_224.mim_in22k": Published(86, 0, "MIT", _EVA02),
    "eva02_large_patch14_224.mim_m38m": Published(304, 0, "MIT", _EVA02),
    "eva02_large_patch14_448.mim_m38m_ft_in22k_in1k": Published(304, 0, "MIT", _EVA02),
    "tf_efficientnetv2_l.in21k_ft_in1k": Published(120, 1000, "Apache-2.0", _EFFICIENTNETV2),
    "convnextv2_base.fcmae_ft_in22k_in1k_384": Published(89, 1000, "CC-BY-NC-4.0", _CONVNEXTV2),
    "convnextv2_large.fcmae_ft_in22k_in1k_384": Published(198, 1000, "CC-BY-NC-4.0", _CONVNEXTV2),
    "swin_large_patch4_window12_384.ms_in22k_ft_in1k": Published(197, 1000, "MIT", _SWIN),
    "vit_base_patch16_384.augreg_in21k_ft_in1k": Published(86.9, 1000, "Apache-2.0", _AUGREG),
    "vit_large_patch16_384.augreg_in21k_ft_in1k": Published(304.7, 1000, "Apache-2.0", _AUGREG),
    "vit_huge_patch14_clip_336.laion2b_ft_in12k_in1k": Published(
        633,
        1000,
        "Apache-2.0",
        _OPENCLIP,
        note="the report's vit_huge_patch16_384 is none of timm's; this one has as many patches",
    ),
    "convnext_xlarge.fb_in22k_ft_in1k_384": Published(350, 1000, "Apache-2.0", _CONVNEXT),
    "swin_large_patch4_window12_384": Published(
        195,
        0,
        "CC-BY-NC-4.0",
        _MEGADESCRIPTOR,
        note="MegaDescriptor-L: the licence is that of its file, which `classifier.weights` names",
    ),
    "resnet10t": Published(5.44, 1000, "Apache-2.0", _TIMM),
    "test_resnet": Published(0.47, 1000, "Apache-2.0", _TIMM),
}
