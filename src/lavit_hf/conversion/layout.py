# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Tables that describe the layout of an original LaVIT checkpoint: the contents of each file and the new name of each
tensor.

No other module of the package contains these names.
"""

import re
from dataclasses import dataclass, field


# File names of weights in a folder, in order of preference. Each can also be an index of shards.
TRANSFORMERS_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
DIFFUSERS_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


@dataclass(frozen=True)
class Rule:
    r"""
    Renames the original tensors whose full name matches `pattern`.

    Args:
        pattern (`str`):
            Regular expression for the original name.
        targets (`tuple[str, ...]`):
            Templates of the new names. If there are several, the original's rows are split equally between them, as
            for a fused query-key-value matrix.
        companion (`str`, *optional*):
            Template of a second original tensor. The target then consists of the first tensor, zeros, and the second
            tensor, as for an attention bias without a part for the keys.
    """

    pattern: str
    targets: tuple[str, ...]
    companion: str | None = None


def _same(pattern: str, target: str) -> Rule:
    return Rule(pattern, (target,))


@dataclass(frozen=True)
class FileLayout:
    """
    A file of the original, the rules for its tensors, and the patterns of tensors to drop, with the reason. If `path`
    is a folder, `names` are the possible file names of its weights.
    """

    path: str
    rules: tuple[Rule, ...]
    dropped: dict[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def is_dropped(self, name: str) -> bool:
        return any(re.fullmatch(pattern, name) for pattern in self.dropped)


def _encoder_rules(prefix: str, target: str) -> tuple[Rule, ...]:
    layer = rf"{target}.encoder.layers.\1"
    start = re.escape(prefix)
    block = rf"{start}blocks\.(\d+)"
    return (
        _same(rf"{start}cls_token", f"{target}.embeddings.class_embedding"),
        _same(rf"{start}pos_embed", f"{target}.embeddings.position_embedding"),
        _same(rf"{start}patch_embed\.proj\.(weight|bias)", rf"{target}.embeddings.patch_embedding.\1"),
        _same(rf"{block}\.norm([12])\.(weight|bias)", rf"{layer}.layer_norm\2.\3"),
        _same(rf"{block}\.attn\.qkv\.weight", rf"{layer}.self_attn.qkv.weight"),
        Rule(
            rf"{block}\.attn\.q_bias",
            (rf"{layer}.self_attn.qkv.bias",),
            companion=rf"{prefix}blocks.\1.attn.v_bias",
        ),
        _same(rf"{block}\.attn\.proj\.(weight|bias)", rf"{layer}.self_attn.projection.\2"),
        _same(rf"{block}\.mlp\.fc([12])\.(weight|bias)", rf"{layer}.mlp.fc\2.\3"),
    )


def _layer_rules(prefix: str, target: str, self_attention: str, cross_attention: str) -> tuple[Rule, ...]:
    block, layer = rf"{re.escape(prefix)}blocks\.(\d+)", rf"{target}layers.\1"
    norms = {"0": "self_attn_norm", "1": "cross_attn_norm", "2": "mlp_norm"}
    projections = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "proj": "out_proj"}
    return (
        *(_same(rf"{block}\.norm{i}\.(weight|bias)", rf"{layer}.{name}.\2") for i, name in norms.items()),
        Rule(
            rf"{block}\.{self_attention}\.qkv\.(weight|bias)",
            tuple(rf"{layer}.self_attn.{name}.\2" for name in ("q_proj", "k_proj", "v_proj")),
        ),
        _same(rf"{block}\.{self_attention}\.proj\.(weight|bias)", rf"{layer}.self_attn.out_proj.\2"),
        *(
            _same(rf"{block}\.{cross_attention}\.{old}\.(weight|bias)", rf"{layer}.cross_attn.{new}.\2")
            for old, new in projections.items()
        ),
        _same(rf"{block}\.mlp\.fc([12])\.(weight|bias)", rf"{layer}.mlp.fc\2.\3"),
    )


def _selector_rules(target: str) -> tuple[Rule, ...]:
    return (
        _same(r"token_predictor\.in_conv\.0\.(weight|bias)", rf"{target}.norm.\1"),
        _same(r"token_predictor\.in_conv\.1\.(weight|bias)", rf"{target}.in_proj.\1"),
        _same(r"token_predictor\.out_conv\.([024])\.(weight|bias)", rf"{target}.classifier.\1.\2"),
    )


def _merger_rules(target: str) -> tuple[Rule, ...]:
    return (
        _same(r"causal_encoder\.ln_vision\.(weight|bias)", rf"{target}.source_norm.\1"),
        *_layer_rules("causal_encoder.", f"{target}.", "token_causal_attn", "token_cross_attn"),
        _same(r"causal_encoder\.norm\.(weight|bias)", rf"{target}.norm.\1"),
    )


_QUANTIZER_RULES = (
    _same(r"encode_task_layer\.0\.(weight|bias)", r"visual_tokenizer.quantizer.in_proj.\1"),
    _same(r"encode_task_layer\.2\.(weight|bias)", r"visual_tokenizer.quantizer.out_proj.\1"),
    _same(r"quantize\.embedding\.weight", "visual_tokenizer.quantizer.codebook.weight"),
)

ENCODER = FileLayout(
    "visual_tokenizer/eva_vitg_psz14.bin",
    _encoder_rules("", "visual_tokenizer.encoder.model"),
    dropped={
        r"norm\.(weight|bias)": "the features are taken before the final norm",
        r"head\.(weight|bias)": "the contrastive head is not part of LaVIT",
    },
)

TOKENIZER = FileLayout(
    "visual_tokenizer/tokenizer_encoder.bin",
    (
        *_selector_rules("visual_tokenizer.selector"),
        *_merger_rules("visual_tokenizer.merger"),
        *_QUANTIZER_RULES,
        # Some releases contain the encoder twice. The later file takes precedence.
        *_encoder_rules("encoder.", "visual_tokenizer.encoder.model"),
    ),
    dropped={
        r"encoder\.(norm|head)\.(weight|bias)": "as in the encoder's own file",
        r"vit_proj\.(weight|bias)": "understanding has its own projection in language_model/visual_weight.bin",
    },
)

UNDERSTANDING = FileLayout(
    "language_model/visual_weight.bin",
    (
        *_selector_rules("understanding.selector"),
        *_merger_rules("understanding.merger"),
        _same(r"vit_proj\.(weight|bias)", r"understanding.projection.\1"),
    ),
)

ORIGINAL_LANGUAGE_MODEL_FOLDER = "language_model"

LANGUAGE_MODEL = FileLayout(
    ORIGINAL_LANGUAGE_MODEL_FOLDER,
    (_same(r"((?:model|lm_head)\..+)", r"language_model.\1"),),
    dropped={r".*\.rotary_emb\.inv_freq": "computed from the config"},
    names=TRANSFORMERS_WEIGHTS,
)


@dataclass(frozen=True)
class PixelDecoderLayout:
    """
    One of the original's two pixel decoders.

    Args:
        detokenizer (`FileLayout`):
            The detokenizer.
        folder (`str`):
            Folder of the diffusion models.
        models (`tuple[str, ...]`):
            Subfolders that contain weights and a config, with the same names as the pipeline's components.
        negative_embeds (`str`, *optional*):
            File in this folder with a single tensor, the embeddings of the negative condition.
        feature_extractor (`bool`, *optional*):
            Whether there is a feature extractor.
    """

    detokenizer: FileLayout
    folder: str
    models: tuple[str, ...]
    negative_embeds: str | None = None
    feature_extractor: bool = False

    def model_files(self, component: str) -> FileLayout:
        """Returns the layout of one of `models`."""
        return FileLayout(f"{self.folder}/{component}", *_MODEL_FILES[component])


# The low resolution has just `unet_proj`; the high resolution has two projections and the pooling.
_DETOKENIZER_RULES = (
    _same(r"pos_embed", "position_embedding"),
    _same(r"query_embed", "query_embedding"),
    _same(r"in_proj\.(weight|bias)", r"in_proj.\1"),
    *_layer_rules("", "", "self_attn", "cross_attn"),
    _same(r"norm\.(weight|bias)", r"norm.\1"),
    _same(r"decode_task_layer\.([02])\.(weight|bias)", r"feature_projection.\1.\2"),
    _same(r"unet_proj(?:_1)?\.(weight|bias)", r"condition_projections.0.\1"),
    _same(r"unet_proj_2\.(weight|bias)", r"condition_projections.1.\1"),
    _same(r"unet_attnpool\.positional_embedding", "pooler.position_embedding"),
    _same(r"unet_attnpool\.([qkv]_proj)\.(weight|bias)", r"pooler.\1.\2"),
    _same(r"unet_attnpool\.c_proj\.(weight|bias)", r"pooler.out_proj.\1"),
)

_UNCHANGED = _same(r"(.+)", r"\1")

# Rules, dropped tensors and file names of the diffusion models, in old and new formats of their libraries.
_MODEL_FILES = {
    "unet": ((_UNCHANGED,), {}, DIFFUSERS_WEIGHTS),
    "vae": (
        (
            *(
                _same(rf"(.+\.attentions\.\d+)\.{old}\.(weight|bias)", rf"\1.{new}.\2")
                for old, new in {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}.items()
            ),
            _UNCHANGED,
        ),
        {},
        DIFFUSERS_WEIGHTS,
    ),
    "safety_checker": (
        (_same(r"vision_model\.vision_model\.(.+)", r"vision_model.\1"), _UNCHANGED),
        {r".*\.position_ids": "computed from the config"},
        TRANSFORMERS_WEIGHTS,
    ),
}

PIXEL_DECODERS = {
    "highres": PixelDecoderLayout(
        detokenizer=FileLayout("visual_tokenizer/highres_tokenizer_decoder.bin", _DETOKENIZER_RULES),
        folder="highres_pixel_decoding",
        models=("unet", "vae"),
    ),
    "lowres": PixelDecoderLayout(
        detokenizer=FileLayout("visual_tokenizer/tokenizer_decoder.bin", _DETOKENIZER_RULES),
        folder="pixel_decoding",
        models=("unet", "vae", "safety_checker"),
        negative_embeds="uncond_embeddings.bin",
        feature_extractor=True,
    ),
}
