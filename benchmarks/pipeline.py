# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Measures how the time for an image is divided between the language model, the U-Net, the VAE, and everything else.

The models have random weights and a size that takes about a minute on a CPU. At full size, the share of everything
else is even smaller, because it grows with the number of steps but not with the size of the models.
"""

import argparse
import time
from collections import defaultdict
from functools import wraps

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import Blip2VisionConfig, LlamaConfig, PreTrainedTokenizerFast

from lavit_hf import (
    LaVITConfig,
    LaVITDetokenizerConfig,
    LaVITForCausalLM,
    LaVITImageProcessorPil,
    LaVITProcessor,
    LaVITVisualTokenizerConfig,
)
from lavit_hf.lavit.tokenization_lavit import build_tokenizer
from lavit_hf.pixels.modeling_detokenizer import LaVITDetokenizer
from lavit_hf.pixels.pipeline_lavit import LaVITPipeline


WORDS = ["<unk>", "<s>", "</s>", "a", "red", "apple"]
CODEBOOK_SIZE, CODEBOOK_DIM = 1024, 32
NUM_TOKENS = 64
AIM = 0.03


class Stopwatch:
    """Measures the total time spent in methods."""

    def __init__(self):
        self.seconds = defaultdict(float)

    def watch(self, part: str, owner: object, method: str) -> None:
        """Adds the time spent in `owner.method` to that of `part`."""
        original = getattr(owner, method)

        @wraps(original)
        def timed(*args, **kwargs):
            start = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                self.seconds[part] += time.perf_counter() - start

        setattr(owner, method, timed)


def build_processor() -> LaVITProcessor:
    words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = build_tokenizer(PreTrainedTokenizerFast(tokenizer_object=words, **special), CODEBOOK_SIZE)
    return LaVITProcessor(LaVITImageProcessorPil(), tokenizer)


def build_language_model() -> LaVITForCausalLM:
    encoder_config = Blip2VisionConfig(
        hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4, image_size=224
    )
    visual_config = LaVITVisualTokenizerConfig(
        encoder_config=encoder_config,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=256,
        codebook_size=CODEBOOK_SIZE,
        codebook_dim=CODEBOOK_DIM,
    )
    text_config = LlamaConfig(
        vocab_size=len(WORDS) + 2 + CODEBOOK_SIZE,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=12,
        num_attention_heads=12,
        pad_token_id=0,
    )
    return LaVITForCausalLM(LaVITConfig(text_config=text_config, visual_tokenizer_config=visual_config)).eval()


def build_pipeline() -> LaVITPipeline:
    torch.manual_seed(0)
    detokenizer_config = LaVITDetokenizerConfig(
        feature_size=256,
        codebook_dim=CODEBOOK_DIM,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        cross_attention_dims=[256, 512],
        pooled_projection_dim=512,
    )
    unet = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=(96, 192, 384),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4, 8),
        cross_attention_dim=768,
        addition_embed_type="text_time",
        addition_time_embed_dim=64,
        projection_class_embeddings_input_dim=512 + 6 * 64,
        use_linear_projection=True,
    )
    vae = AutoencoderKL(
        block_out_channels=(64, 64, 128, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
    )
    return LaVITPipeline(
        language_model=build_language_model(),
        processor=build_processor(),
        detokenizer=LaVITDetokenizer(detokenizer_config).eval(),
        unet=unet.eval(),
        vae=vae.eval(),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1),
    )


def measure(pipeline: LaVITPipeline, num_pictures: int, num_steps: int) -> tuple[dict[str, float], float]:
    """Time of each part and of the whole call, in seconds."""
    stopwatch = Stopwatch()
    stopwatch.watch("language model", pipeline.language_model, "generate")
    stopwatch.watch("detokenizer", pipeline.detokenizer, "forward")
    stopwatch.watch("U-Net", pipeline.unet, "forward")
    stopwatch.watch("scheduler", pipeline.scheduler, "step")
    stopwatch.watch("VAE", pipeline.vae, "decode")
    start = time.perf_counter()
    pipeline(
        ["a red apple"] * num_pictures,
        num_inference_steps=num_steps,
        generator=torch.Generator().manual_seed(0),
        generation_kwargs={"min_new_tokens": NUM_TOKENS, "max_new_tokens": NUM_TOKENS},
    )
    return dict(stopwatch.seconds), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2, help="number of images in the batch")
    parser.add_argument("--steps", type=int, default=25, help="number of denoising steps")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="number of torch threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    pipeline = build_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    pipeline("a red apple", num_inference_steps=1, generation_kwargs={"max_new_tokens": 20})  # warm-up
    seconds, total = measure(pipeline, arguments.pictures, arguments.steps)

    seconds["everything else"] = total - sum(seconds.values())
    print(f"| {arguments.pictures} images, {arguments.steps} steps | seconds | share |")
    print("| --- | ---: | ---: |")
    for part, spent in seconds.items():
        print(f"| {part} | {spent:.3f} | {spent / total:.2%} |")
    print(f"| whole call | {total:.3f} | 100% |")
    models_share = sum(seconds[part] for part in ("language model", "U-Net", "VAE")) / total
    print(f"\nOutside the language model, U-Net and VAE: {1 - models_share:.2%} (target: below {AIM:.0%}).")


if __name__ == "__main__":
    main()
