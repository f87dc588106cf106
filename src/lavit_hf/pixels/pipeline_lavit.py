# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LaVIT's diffusion pipeline, from text, images or image tokens to images."""

import inspect
import os
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, StableDiffusionMixin, UNet2DConditionModel
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from diffusers.schedulers import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from huggingface_hub import ModelCard
from PIL import Image
from transformers import BaseImageProcessor
from transformers.image_utils import ImageInput

from ..hub.download import download_pipeline
from ..hub.model_card import create_decoder_card, create_model_card, write_model_card
from ..hub.pipeline_code import PIPELINE_FILE, write_pipeline_code
from ..hub.repo_layout import PROCESSOR_FOLDER, name_components, read_codebook, write_top_files
from ..hub.upload import pushes_with_card
from ..lavit.atomic_saving import LoadsWholeRepos, finish_interrupted_save, saves_atomically
from ..lavit.image_loading import flatten_images
from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.processing_lavit import LaVITProcessor
from ..lavit.remote_code import comes_from_a_repo
from ..lavit.token_sampling import Generators, check_generators
from ..lavit.untrusted_files import check_indices, naming_checkpoint
from .candidates import CandidatesMixin
from .concurrent_calls import runs_apart, upcast
from .denoising import DenoisingMixin, LaVITCondition
from .generators import as_list, repeat_generators
from .image_tokens import ImageTokensMixin, find_codes
from .modeling_detokenizer import LaVITDetokenizer
from .offloading import awake
from .picture_sizes import latent_size_ratio, resolve_size, warn_if_far
from .pipeline_inputs import check_count, check_known, check_number, check_prompt_embeds, check_sources
from .small.condition_map import check_channels
from .small.patch_autoencoder import PatchAutoencoder
from .unet_lora import UNetLoraLoaderMixin


DEFAULT_SETTINGS = {"default_guidance_scale": 7.0, "default_num_inference_steps": 25}

# Attribute of a U-Net that holds the settings of the pipeline that last returned it in its `components`. It is copied
# along with the U-Net, but not saved.
SETTINGS_ATTRIBUTE = "_lavit_settings"

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass
class LaVITPipelineOutput(BaseOutput):
    """
    Output of [`LaVITPipeline`].

    Args:
        images (`list[PIL.Image.Image]`, `np.ndarray` of shape `(batch_size, height, width, 3)` or `torch.Tensor`):
            The images, of shape `(batch_size, 3, height, width)` with values in 0..1 for `output_type="pt"`, or the
            latents.
        nsfw_content_detected (`list[bool]`, *optional*):
            Whether the safety checker flagged and blacked out each image; `None` without a safety checker.
        image_token_ids (`list[torch.LongTensor]`, *optional*):
            The token ids that each image was generated from; `None` if generated from `prompt_embeds`.
    """

    images: list[Image.Image] | np.ndarray | torch.Tensor
    nsfw_content_detected: list[bool] | None
    image_token_ids: list[torch.Tensor] | None


def make_pipeline_card(pipeline: "LaVITPipeline", repo_id: str | None = None) -> ModelCard:
    """Creates the model card of a full repo, or of a pixel decoder without a language model."""
    names = {} if repo_id is None else {"name": repo_id.split("/")[-1], "repo": repo_id}
    if pipeline.language_model is None:
        return create_decoder_card(pipeline.picture_size, **names)
    num_parameters = pipeline.language_model.num_parameters()
    return create_model_card(
        pipeline.language_model.config, num_parameters=num_parameters, picture_size=pipeline.picture_size, **names
    )


@pushes_with_card(make_pipeline_card)
class LaVITPipeline(
    LoadsWholeRepos,
    DiffusionPipeline,
    StableDiffusionMixin,
    ImageTokensMixin,
    DenoisingMixin,
    CandidatesMixin,
    UNetLoraLoaderMixin,
):
    r"""
    Generates images with LaVIT (arXiv 2309.04669): the language model writes an image as tokens, and the detokenizer
    turns these into the condition of a diffusion U-Net. Supports both released resolutions; the U-Net's configuration
    determines which one is used.

    The stored scheduler can be replaced by any scheduler of diffusers. DDIM needs about 25 steps, DPM-Solver++
    (`DPMSolverMultistepScheduler`) and UniPC (`UniPCMultistepScheduler`) 15 to 20. `pipeline.vae.enable_slicing()` and
    `enable_tiling()` save memory, as does [`~DiffusionPipeline.enable_model_cpu_offload`]. FreeU (`enable_freeu`) and
    fused projections (`fuse_qkv_projections`) work as in diffusers' Stable Diffusion.

    Threads may share a pipeline: concurrent calls run on a copy with its own scheduler.

    Args:
        language_model (`LaVITForCausalLM`, *optional*):
            Writes the image tokens. `None` to only decode image tokens.
        processor (`LaVITProcessor`):
            Creates prompts from texts and images.
        detokenizer (`LaVITDetokenizer`):
            Turns image tokens into the U-Net's condition. Gets its codebook from the language model or, without one,
            from the repo that it was loaded from.
        unet (`UNet2DConditionModel`):
            The U-Net, with the architecture of Stable Diffusion 1.5 or SDXL. If it has `cross_attention_dim` more
            input than output channels, it also receives the condition as a map, with each patch's row at its place.
        vae (`AutoencoderKL` or [`PatchAutoencoder`]):
            Turns latents into images.
        scheduler (`SchedulerMixin`):
            The noise schedule.
        safety_checker (`StableDiffusionSafetyChecker`, *optional*):
            Blacks out offensive images.
        feature_extractor (`BaseImageProcessor`, *optional*):
            Prepares images for the safety checker.
        default_guidance_scale (`float`, *optional*):
            The U-Net's guidance scale for calls that pass none, saved in `model_index.json`. Defaults to that of the
            pipeline whose `components` are passed, otherwise to 7.0.
        default_num_inference_steps (`int`, *optional*):
            The number of denoising steps for calls that pass none, saved in `model_index.json`. Defaults to that of
            the pipeline whose `components` are passed, otherwise to 25.

    Example:

    ```python
    >>> from lavit_hf import LaVITPipeline

    >>> pipeline = LaVITPipeline.from_pretrained(path, dtype=torch.float16).to("cuda")
    >>> pipeline("a red apple", aspect_ratio="4:3").images[0]
    >>> pipeline("<image> in the style of <image>", images=[cat, starry_night]).images[0]

    >>> decoder = LaVITPipeline.from_pretrained(path, language_model=None)
    >>> decoder(image_token_ids=model.get_image_tokens(pixel_values)).images[0]
    ```
    """

    model_cpu_offload_seq = "language_model->detokenizer->unet->vae"
    _optional_components = ["language_model", "safety_checker", "feature_extractor"]
    _exclude_from_cpu_offload = ["safety_checker"]

    # `unfuse_qkv_projections` reads these even if nothing was fused.
    fusing_unet = False
    fusing_vae = False

    def __init__(
        self,
        language_model: LaVITForCausalLM | None,
        processor: LaVITProcessor,
        detokenizer: LaVITDetokenizer,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL | PatchAutoencoder,
        scheduler: SchedulerMixin,
        safety_checker: StableDiffusionSafetyChecker | None = None,
        feature_extractor: BaseImageProcessor | None = None,
        default_guidance_scale: float | None = None,
        default_num_inference_steps: int | None = None,
    ):
        super().__init__()
        if safety_checker is not None and feature_extractor is None:
            raise ValueError("the safety checker needs a feature_extractor. Pass one, or safety_checker=None as well.")
        self.register_modules(
            language_model=language_model,
            processor=processor,
            detokenizer=detokenizer,
            unet=unet,
            vae=vae,
            scheduler=scheduler,
            safety_checker=safety_checker,
            feature_extractor=feature_extractor,
        )
        check_channels(unet.config, vae.config.latent_channels, detokenizer.config.num_patches)
        settings = {
            "default_guidance_scale": default_guidance_scale,
            "default_num_inference_steps": default_num_inference_steps,
        }
        settings = {name: value for name, value in settings.items() if value is not None}
        self.register_to_config(**DEFAULT_SETTINGS | getattr(unet, SETTINGS_ATTRIBUTE, {}) | settings)
        self.vae_scale_factor = latent_size_ratio(vae)
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self._share_codebook()

    def _share_codebook(self) -> None:
        if self.language_model is not None:
            visual_tokenizer = self.language_model.visual_tokenizer
            if not visual_tokenizer.has_detokenizer:
                visual_tokenizer.attach_detokenizer(self.detokenizer)
            embedding = visual_tokenizer.quantizer.codebook
            codebook = embedding.weight
            if codebook.is_meta:  # offloaded, and loaded when the module is called
                codebook = embedding(torch.arange(embedding.num_embeddings)).detach()
            if self.detokenizer.codebook is None:
                self.detokenizer.set_codebook(codebook)
            elif not _are_equal(self.detokenizer.codebook, codebook):
                raise ValueError(
                    "the detokenizer has the codebook of another language model, maybe from a second pipeline. Pass "
                    "a detokenizer of its own."
                )
        elif self.detokenizer.codebook is None and self.detokenizer.name_or_path:
            loaded_from = Path(self.detokenizer.name_or_path)  # its own folder or, with `subfolder`, the repo
            codebooks = (read_codebook(folder) for folder in (loaded_from, loaded_from.parent))
            codebook = next((codebook for codebook in codebooks if codebook is not None), None)
            if codebook is not None:
                self.detokenizer.set_codebook(codebook)

    @property
    def components(self) -> dict[str, Any]:
        """The components by name. A pipeline created from them inherits this pipeline's settings by default."""
        components = super().components
        setattr(self.unet, SETTINGS_ATTRIBUTE, {name: self.config[name] for name in DEFAULT_SETTINGS})
        return components

    @property
    def picture_size(self) -> int:
        """Side in pixels of the images that the U-Net is trained for."""
        return self.unet.config.sample_size * self.vae_scale_factor

    @runs_apart
    @torch.no_grad()
    def __call__(
        self,
        prompt: str | list[str] | None = None,
        images: ImageInput | list | None = None,
        image_token_ids: Sequence[torch.Tensor] | None = None,
        negative_prompt: str | list[str] | None = None,
        aspect_ratio: str | None = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        timesteps: Sequence[int] | None = None,
        sigmas: Sequence[float] | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        llm_guidance_scale: float | None = None,
        generation_kwargs: dict[str, Any] | None = None,
        num_images_per_prompt: int = 1,
        num_candidates: int = 1,
        eta: float = 0.0,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt_embeds: torch.Tensor | None = None,
        negative_prompt_attention_mask: torch.Tensor | None = None,
        pooled_prompt_embeds: torch.Tensor | None = None,
        negative_pooled_prompt_embeds: torch.Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable | PipelineCallback | MultiPipelineCallbacks | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        **unknown: Any,
    ) -> LaVITPipelineOutput | tuple:
        r"""
        Generates images.

        Args:
            prompt (`str` or `list[str]`, *optional*):
                What to generate. `<image>` marks where an image of `images` goes.
            images (`ImageInput` or `list`, *optional*):
                Images for the prompts, as for the processor: a flat list, or a list for each prompt.
            image_token_ids (`Sequence[torch.LongTensor]`, each of shape `(sequence_length,)`, *optional*):
                Token ids of images to decode, instead of prompts. Needs no language model.
            negative_prompt (`str` or `list[str]`, *optional*):
                What the language model's guidance steers away from.
            aspect_ratio (`str`, *optional*):
                One of `"1:1"`, `"4:3"`, `"3:2"`, `"16:9"`, `"2:3"` and `"3:4"`, instead of `height` and `width`.
            height, width (`int`, *optional*):
                Size of the images in pixels. Defaults to the size the U-Net is trained for.
            num_inference_steps (`int`, *optional*):
                Number of denoising steps. Defaults to the checkpoint's `default_num_inference_steps`, 25 as released.
            timesteps (`Sequence[int]`, *optional*):
                Timesteps to denoise at, in descending order, instead of `num_inference_steps`, for schedulers that
                support them.
            sigmas (`Sequence[float]`, *optional*):
                Noise levels to denoise at, instead of `num_inference_steps`, for schedulers that support them. Those
                of `EulerDiscreteScheduler` end with 0.
            guidance_scale (`float`, *optional*):
                Guidance scale of the U-Net; 1 or less turns guidance off. Defaults to the checkpoint's
                `default_guidance_scale`, 7.0 as released.
            guidance_rescale (`float`, *optional*, defaults to 0.0):
                How far, from 0 to 1, guided noise is rescaled to its standard deviation without guidance, which fixes
                overexposed images (arXiv 2305.08891, section 3.4).
            llm_guidance_scale (`float`, *optional*):
                Guidance scale of the language model; 1 turns guidance off. Defaults to that of its generation config,
                4.0 as released.
            generation_kwargs (`dict`, *optional*):
                Further arguments of [`~LaVITForCausalLM.generate`], such as `do_sample`, `temperature`, `top_k`,
                `top_p`, `keep_ratio` for `images`, and `max_new_tokens`, at most the number of patches of an image.
            num_images_per_prompt (`int`, *optional*, defaults to 1):
                Number of images per prompt. The language model writes each of them separately.
            num_candidates (`int`, *optional*, defaults to 1):
                Number of candidates to generate per image. [`~LaVITPipeline.choose_candidates`] keeps the most
                faithful.
            eta (`float`, *optional*, defaults to 0.0):
                How much noise, from 0 to 1, DDIM (arXiv 2010.02502) adds at every step. Schedulers without `eta`
                ignore it.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Random number generator for patch selection, sampling and latents. The global random state is not used.
                With a list of one generator per image, each image only depends on its own generator, and the language
                model writes images one at a time instead of as a batch.
            latents (`torch.Tensor` of shape `(num_pictures, channels, height / 8, width / 8)`, *optional*):
                Noise to start from, for each candidate if there are several.
            prompt_embeds (`torch.Tensor` of shape `(batch_size, num_patches, cross_attention_dim)`, *optional*):
                The U-Net's condition, instead of prompts and token ids; [`~LaVITPipeline.encode_image_tokens`]
                computes it from token ids. Needs no language model.
            negative_prompt_embeds (`torch.Tensor` of the shape of `prompt_embeds`, *optional*):
                The negative condition for the U-Net's guidance. Defaults to that of the detokenizer.
            negative_prompt_attention_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`, *optional*):
                The rows of `negative_prompt_embeds` that may be attended to. Defaults to all.
            pooled_prompt_embeds (`torch.Tensor` of shape `(batch_size, pooled_projection_dim)`, *optional*):
                The pooled condition that belongs to `prompt_embeds`, if the U-Net has one.
            negative_pooled_prompt_embeds (`torch.Tensor` of the shape of `pooled_prompt_embeds`, *optional*):
                The pooled condition that belongs to `negative_prompt_embeds`, if the U-Net has one.
            cross_attention_kwargs (`dict`, *optional*):
                Passed to the U-Net's attention processors, such as `{"scale": 0.5}` for a LoRA.
            output_type (`str`, *optional*, defaults to `"pil"`):
                `"pil"`, `"np"`, `"pt"` or `"latent"`.
            return_dict (`bool`, *optional*, defaults to `True`):
                Whether to return a [`LaVITPipelineOutput`] or a tuple.
            callback_on_step_end (`Callable`, *optional*):
                Called after each denoising step as `callback(pipeline, step, timestep, tensors)`; returns a dictionary
                of tensors to continue with.
            callback_on_step_end_tensor_inputs (`Sequence[str]`, *optional*, defaults to `("latents",)`):
                The tensors it receives, from `pipeline._callback_tensor_inputs`.
            unknown:
                Rejected, with a suggestion of the argument that was probably meant, such as `images` for `image`.

        Returns:
            [`LaVITPipelineOutput`], or the same as a tuple.

        Raises:
            ValueError: If not exactly one of prompts, token ids and `prompt_embeds` is passed, ids are not image
                tokens, embeds have the wrong shape for the U-Net, the VAE does not support the size or the scheduler
                the steps, the number of generators is wrong, a setting is out of range, or there are prompts or
                several candidates but no language model.
            TypeError: If an argument is unknown.
        """
        check_known(unknown, inspect.signature(type(self).__call__).parameters)
        # 1. Check the arguments before the slow language model runs.
        if isinstance(callback_on_step_end, PipelineCallback | MultiPipelineCallbacks):
            callback_on_step_end_tensor_inputs = callback_on_step_end.tensor_inputs
        embeds = {
            "prompt_embeds": prompt_embeds,
            "negative_prompt_embeds": negative_prompt_embeds,
            "negative_prompt_attention_mask": negative_prompt_attention_mask,
            "pooled_prompt_embeds": pooled_prompt_embeds,
            "negative_pooled_prompt_embeds": negative_pooled_prompt_embeds,
        }
        check_sources(prompt, images, image_token_ids, prompt_embeds, negative_prompt)
        self._check_settings(embeds, output_type, num_images_per_prompt, num_candidates)
        if guidance_scale is not None:
            check_number("guidance_scale", guidance_scale)
        self._check_denoising(guidance_rescale, eta, callback_on_step_end_tensor_inputs)
        if num_inference_steps is None:
            num_inference_steps = self.config.default_num_inference_steps
        self._set_timesteps(num_inference_steps, timesteps, sigmas)  # set again after the language model
        height, width = resolve_size(self.picture_size, self.vae_scale_factor, height, width, aspect_ratio)
        if aspect_ratio is None:
            warn_if_far(self.picture_size, height, width)

        # 2. Write the image tokens, or use those given.
        if prompt is not None or images is not None:
            image_token_ids = self.generate_image_tokens(
                prompt,
                images,
                negative_prompt=negative_prompt,
                guidance_scale=llm_guidance_scale,
                num_images_per_prompt=num_images_per_prompt,
                generator=generator,
                generation_kwargs=generation_kwargs,
            )
        elif image_token_ids is not None:
            image_token_ids = [ids for ids in image_token_ids for _ in range(num_images_per_prompt)]

        # 3. Turn them into the U-Net's condition, or use the one given.
        if image_token_ids is not None:
            condition = self.encode_image_tokens(image_token_ids)
        else:
            condition = self._take_embeds(embeds).repeat(num_images_per_prompt)
        check_generators(generator, len(condition.prompt_embeds))
        condition, generator = condition.repeat(num_candidates), repeat_generators(generator, num_candidates)

        # 4. Sample noise and denoise it.
        latents = self.prepare_latents(len(condition.prompt_embeds), height, width, generator, latents)
        latents = self.denoise(
            latents,
            condition,
            num_inference_steps=num_inference_steps,
            guidance_scale=self.config.default_guidance_scale if guidance_scale is None else guidance_scale,
            guidance_rescale=guidance_rescale,
            timesteps=timesteps,
            sigmas=sigmas,
            eta=eta,
            generator=generator,
            cross_attention_kwargs=cross_attention_kwargs,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
        )

        # 5. Decode, and keep the best candidates.
        pictures, flags = latents, None
        if output_type != "latent" or num_candidates > 1:
            pictures = self.decode_latents(latents)
        if num_candidates > 1:
            chosen = self.choose_candidates(pictures, condition.features, num_candidates)
            pictures = (latents if output_type == "latent" else pictures)[chosen]

        # 6. Check the images, and convert them to the output type.
        if output_type != "latent":
            pictures, flags = self.check_safety(pictures)
            pictures = self._as_output(pictures, output_type)
        self.maybe_free_model_hooks()
        output = LaVITPipelineOutput(pictures, flags, image_token_ids)
        return output if return_dict else (pictures, flags, image_token_ids)

    def reconstruct(
        self,
        images: ImageInput | list,
        generator: Generators = None,
        num_images_per_prompt: int = 1,
        keep_threshold: float | None = None,
        keep_ratio: float | None = None,
        keep_error: float | None = None,
        **kwargs,
    ) -> LaVITPipelineOutput:
        """
        Turns images into tokens, and tokens back into images.

        Args:
            images (`ImageInput` or `list`):
                The images.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Random number generator for patch selection and latents; a list must have one for each image.
            num_images_per_prompt (`int`, *optional*, defaults to 1):
                Number of results per image. Each is tokenized separately.
            keep_threshold, keep_ratio, keep_error (`float`, *optional*):
                How many patches to keep, as in [`~LaVITVisualTokenizer.forward`].
            kwargs:
                Further arguments of the pipeline for decoding tokens.

        Returns:
            [`LaVITPipelineOutput`], with results grouped by image.

        Raises:
            ValueError: As in [`~LaVITPipeline.tokenize_images`].
        """
        images = [image for image in flatten_images(images) for _ in range(num_images_per_prompt)]
        tokens = self.tokenize_images(
            images, generator, keep_threshold=keep_threshold, keep_ratio=keep_ratio, keep_error=keep_error
        )
        return self(image_token_ids=tokens, generator=generator, **kwargs)

    # The stages.

    @torch.no_grad()
    def encode_image_tokens(self, image_token_ids: Sequence[torch.Tensor]) -> LaVITCondition:
        """
        Turns image tokens into the U-Net's condition.

        Args:
            image_token_ids (`Sequence[torch.LongTensor]`, each of shape `(sequence_length,)`):
                Token ids of each image. Special tokens are skipped.

        Returns:
            [`LaVITCondition`].

        Raises:
            ValueError: If there are no images, an image has no codes, or an id is not an image token.
        """
        if len(image_token_ids) == 0:
            raise ValueError("image_token_ids is empty. Pass the ids of at least one image.")
        if self.detokenizer.codebook is None:
            raise ValueError(
                "there is no codebook to look image tokens up in. Load the detokenizer from a LaVIT repo, pass a "
                "language_model, or call `pipeline.detokenizer.set_codebook`."
            )
        codes = [self._find_codes(number, ids) for number, ids in enumerate(image_token_ids)]
        outputs = self.detokenizer(codes=codes)
        negative_embeds, negative_mask = awake(self.detokenizer).negative_condition(outputs.prompt_embeds)
        return LaVITCondition(
            prompt_embeds=outputs.prompt_embeds,
            negative_prompt_embeds=negative_embeds,
            negative_attention_mask=negative_mask,
            pooled_prompt_embeds=outputs.pooled_prompt_embeds,
            features=outputs.features,
        )

    def prepare_latents(
        self,
        batch_size: int,
        height: int,
        width: int,
        generator: Generators = None,
        latents: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Samples the noise to start from, or checks the given noise. It has unit variance;
        [`~LaVITPipeline.denoise`] scales it to the scheduler's initial noise level.

        Args:
            batch_size (`int`):
                Number of images.
            height, width (`int`):
                Size of the images in pixels.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Random number generator.
            latents (`torch.Tensor`, *optional*):
                Noise to use instead.

        Returns:
            `torch.Tensor` of shape `(batch_size, channels, height / 8, width / 8)`, in fp32.

        Raises:
            ValueError: If `latents` has the wrong shape, or the number of generators does not match that of images.
        """
        check_generators(generator, batch_size)
        sides = (height // self.vae_scale_factor, width // self.vae_scale_factor)
        shape = (batch_size, self.unet.config.out_channels, *sides)
        if latents is None:
            generator = as_list(generator)
            return randn_tensor(shape, generator=generator, device=self._execution_device, dtype=torch.float32)
        if tuple(latents.shape) != shape:
            raise ValueError(f"latents must have shape {shape} for this size and batch, got {tuple(latents.shape)}.")
        return latents.to(self._execution_device, torch.float32)

    @torch.no_grad()
    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """
        Turns latents into images. If the VAE's configuration has `force_upcast`, it computes in fp32 and is cast back
        afterwards.

        Args:
            latents (`torch.Tensor` of shape `(batch_size, channels, height / 8, width / 8)`):
                Denoised latents.

        Returns:
            `torch.Tensor` of shape `(batch_size, 3, height, width)`, in fp32 with values in 0..1.
        """
        latents = latents / self.vae.config.scaling_factor
        with upcast(self.vae) if self.vae.config.get("force_upcast") else nullcontext():
            pictures = self.vae.decode(latents.to(self.vae.dtype), return_dict=False)[0]
        return self.image_processor.postprocess(pictures.float(), output_type="pt")

    @torch.no_grad()
    def check_safety(self, pictures: torch.Tensor) -> tuple[torch.Tensor, list[bool] | None]:
        """
        Blacks out flagged images.

        Args:
            pictures (`torch.Tensor` of shape `(batch_size, 3, height, width)`):
                Images with values in 0..1.

        Returns:
            The images, and whether each was flagged; `None` without a safety checker.
        """
        if self.safety_checker is None:
            return pictures, None
        inputs = self.feature_extractor(self._as_output(pictures, "pil"), return_tensors="pt")
        clip_input = inputs.pixel_values.to(self._execution_device, self.safety_checker.dtype)
        return self.safety_checker(images=pictures.clone(), clip_input=clip_input)

    # Settings.

    def fuse_qkv_projections(self, unet: bool = True, vae: bool = True) -> None:
        """
        Fuses the projections of queries, keys and values into one matrix.

        Args:
            unet (`bool`, *optional*, defaults to `True`):
                Whether to fuse those of the U-Net.
            vae (`bool`, *optional*, defaults to `True`):
                Whether to fuse those of the VAE.

        Raises:
            ValueError: If the VAE has none. In that case, nothing is fused.
        """
        if vae and not isinstance(self.vae, AutoencoderKL):
            raise ValueError(f"{type(self.vae).__name__} has no attention to fuse. Pass vae=False.")
        super().fuse_qkv_projections(unet=unet, vae=vae)

    # Loading and saving.

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> "LaVITPipeline":
        """As in diffusers. Any problem with the files raises a `ValueError` or `OSError` that names them."""
        if os.path.isdir(pretrained_model_name_or_path):
            finish_interrupted_save(pretrained_model_name_or_path)  # so that what it moves into place is checked too
            check_indices(pretrained_model_name_or_path)
        with naming_checkpoint(pretrained_model_name_or_path, cls.__name__):
            return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def load_config(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> Any:
        """Reads `model_index.json`. Raises an `OSError` that explains what is missing if a folder has none."""
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir() and not (folder / cls.config_name).is_file():
            raise OSError(
                f"{folder} has no pixel decoder ({cls.config_name} is missing). Convert the original checkpoint with "
                "`--pixel-decoder highres` or `lowres`."
            )
        classes = (LaVITForCausalLM, LaVITProcessor, LaVITDetokenizer, PatchAutoencoder)
        modules = {component_class.__name__: component_class.__module__ for component_class in classes}
        return name_components(super().load_config(pretrained_model_name_or_path, **kwargs), modules)

    @classmethod
    def download(cls, pretrained_model_name: str, **kwargs) -> str:
        """
        Downloads a repo: the weights of a variant, without those of components that are passed, except for the file
        with the codebook.

        Args:
            pretrained_model_name (`str`):
                A Hub id.
            kwargs:
                `variant`, components, and `cache_dir`, `force_download`, `local_files_only`, `revision` and `token` as
                in `snapshot_download`.

        Returns:
            `str`: the local folder.

        Raises:
            ValueError: If no component has the variant.
        """
        names = ("variant", "cache_dir", "force_download", "local_files_only", "revision", "token")
        options = {name: kwargs[name] for name in names if kwargs.get(name) is not None}
        components, _ = cls._get_signature_keys(cls)
        spared = [name for name in components if name in kwargs]
        folder = download_pipeline(pretrained_model_name, spared=spared, **options)
        check_indices(folder)
        return folder

    @saves_atomically
    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        include_code: bool = False,
        **kwargs,
    ) -> None:
        """
        Saves the full repo, with a model card unless it already has one.

        Args:
            save_directory (`str` or `os.PathLike`):
                Folder to create.
            include_code (`bool`, *optional*, defaults to `False`):
                Whether to also save the source code, for `trust_remote_code=True`. Always saved when pushing, and if
                the pipeline's own source code was loaded from a repo.
            safe_serialization, variant, max_shard_size, kwargs:
                As for diffusers' `save_pretrained` and, with `push_to_hub=True`, arguments of `push_to_hub`; `repo_id`
                defaults to the name of the folder.
        """
        super().save_pretrained(save_directory, safe_serialization, variant, max_shard_size, **kwargs)
        if include_code or comes_from_a_repo(type(self)) or (Path(save_directory) / PIPELINE_FILE).is_file():
            write_pipeline_code(Path(save_directory))

    @saves_atomically
    def save_config(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs) -> None:
        """Writes `model_index.json` and, if the components are there, the other files at the root of the repo."""
        # `save_pretrained` calls this after saving the components and before pushing.
        folder = Path(save_directory)
        if (folder / PROCESSOR_FOLDER).is_dir():
            write_top_files(folder, self.detokenizer.codebook if self.language_model is None else None)
            write_model_card(folder, make_pipeline_card(self))
        super().save_config(save_directory, push_to_hub=push_to_hub, **kwargs)

    # Helpers of the stages.

    def _check_settings(
        self,
        embeds: dict[str, torch.Tensor | None],
        output_type: str,
        num_images_per_prompt: int,
        num_candidates: int,
    ) -> None:
        pooled_dim = self.detokenizer.config.pooled_projection_dim if self._has_pooled_condition else None
        num_patches = self.detokenizer.config.num_patches
        check_prompt_embeds(embeds, num_patches, self.unet.config.cross_attention_dim, pooled_dim)
        for name, value in {"num_images_per_prompt": num_images_per_prompt, "num_candidates": num_candidates}.items():
            check_count(name, value)
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"unknown output_type {output_type!r}. Choose one of {', '.join(OUTPUT_TYPES)}.")
        if num_candidates > 1 and self.language_model is None:
            raise ValueError(
                "num_candidates needs a language model, whose visual tokenizer reads the candidates. Load the "
                "pipeline with one, or leave num_candidates out."
            )
        if num_candidates > 1 and embeds["prompt_embeds"] is not None:
            raise ValueError(
                "num_candidates compares images with the features of their tokens, which prompt_embeds do not "
                "contain. Pass image_token_ids, or leave num_candidates out."
            )

    def _take_embeds(self, embeds: dict[str, torch.Tensor | None]) -> LaVITCondition:
        """The given condition, with the detokenizer's negative side unless one is given."""
        device = self._execution_device
        given = {name: tensor.to(device) for name, tensor in embeds.items() if tensor is not None}
        mask = given.pop("negative_prompt_attention_mask", None)
        if "negative_prompt_embeds" not in given:
            given["negative_prompt_embeds"], mask = awake(self.detokenizer).negative_condition(given["prompt_embeds"])
        return LaVITCondition(**given, negative_attention_mask=None if mask is None else mask.bool())

    def _find_codes(self, number: int, image_token_ids: torch.Tensor) -> torch.Tensor:
        try:
            return find_codes(image_token_ids, self.processor.tokenizer, len(self.detokenizer.codebook))
        except ValueError as error:
            raise ValueError(f"image_token_ids[{number}]: {error}") from error

    def _as_output(self, pictures: torch.Tensor, output_type: str) -> list[Image.Image] | np.ndarray | torch.Tensor:
        return self.image_processor.postprocess(pictures, output_type, do_denormalize=[False] * len(pictures))


# diffusers has no function to register a pipeline, and no way to register one that is not imported yet.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)  # caused by another pipeline's code
    from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING
AUTO_TEXT2IMAGE_PIPELINES_MAPPING["lavit"] = LaVITPipeline


def _are_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether values are equal, or one rounded to the dtype of the other."""
    return torch.equal(one, other.to(one)) or torch.equal(one.to(other), other)


__all__ = ["LaVITPipeline", "LaVITPipelineOutput"]
