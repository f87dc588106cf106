# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""A tiny pipeline's components, with weights that make a difference."""

from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPConfig,
    GenerationConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from conftest import tiny_visual_config
from lavit_hf import LaVITConfig, LaVITForCausalLM, LaVITProcessor
from lavit_hf.lavit.configuration_lavit import LaVITDetokenizerConfig
from lavit_hf.lavit.image_processing_pil_lavit import LaVITImageProcessorPil
from lavit_hf.lavit.tokenization_lavit import build_tokenizer
from lavit_hf.pixels.modeling_detokenizer import LaVITDetokenizer


WORDS = ["<unk>", "<s>", "</s>", "a", "red", "apple", "dog"]
CODEBOOK_SIZE, CODEBOOK_DIM, NUM_PATCHES = 24, 8, 16
FIRST_CODE = len(WORDS) + 2


def tiny_text_tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def tiny_processor() -> LaVITProcessor:
    image_processor = LaVITImageProcessorPil(size={"height": 32, "width": 32})
    return LaVITProcessor(image_processor, build_tokenizer(tiny_text_tokenizer(), CODEBOOK_SIZE))


def tiny_language_model() -> LaVITForCausalLM:
    text_config = LlamaConfig(
        vocab_size=len(WORDS) + 2 + CODEBOOK_SIZE,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=0,
        initializer_range=0.2,
    )
    visual_config = tiny_visual_config(codebook_size=CODEBOOK_SIZE, codebook_dim=CODEBOOK_DIM)
    model = LaVITForCausalLM(LaVITConfig(text_config=text_config, visual_tokenizer_config=visual_config))
    model.generation_config = GenerationConfig(
        eos_token_id=2,
        pad_token_id=0,
        image_generation={"do_sample": True, "min_new_tokens": 2, "max_new_tokens": 5},
    )
    return model.eval()


def tiny_detokenizer(highres: bool) -> LaVITDetokenizer:
    form = {"cross_attention_dims": [8, 12], "pooled_projection_dim": 10} if highres else {"num_negative_embeds": 3}
    config = LaVITDetokenizerConfig(
        **{"cross_attention_dims": [20], **form},
        num_patches=NUM_PATCHES,
        feature_size=16,
        codebook_dim=CODEBOOK_DIM,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.2,
    )
    detokenizer = LaVITDetokenizer(config).eval()
    if not highres:
        detokenizer.negative_embeds.normal_()
    return detokenizer


def tiny_unet(highres: bool, sees_map: bool = False) -> UNet2DConditionModel:
    latents, condition = 4, 20
    sdxl = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 10 + 6 * 4,
        "use_linear_projection": True,
    }
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=latents + condition if sees_map else latents,
        out_channels=latents,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2,
        norm_num_groups=4,
        cross_attention_dim=condition,
        **(sdxl if highres else {}),
    ).eval()


def tiny_vae() -> AutoencoderKL:
    blocks = 2
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=16,
    ).eval()


def tiny_safety_checker() -> StableDiffusionSafetyChecker:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text_config = {**sizes, "vocab_size": 10, "bos_token_id": 0, "eos_token_id": 1}
    vision_config = {**sizes, "image_size": 16, "patch_size": 8}
    return StableDiffusionSafetyChecker(
        CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=8)
    ).eval()
