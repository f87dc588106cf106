# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The dynamic visual tokenizer: an image becomes a sentence of codes as long as its content asks for."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .configuration_lavit import LaVITVisualTokenizerConfig
from .token_merger import TokenMerger, split_by_image
from .token_selector import TokenSelector
from .vector_quantizer import VectorQuantizer
from .vision_encoder import LaVITVisionEncoder


@dataclass
class LaVITVisualTokenizerOutput(ModelOutput):
    r"""
    Output of [`LaVITVisualTokenizer`]. The lists hold one tensor for each image; `kept` differs from image to image.

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch_size, num_patches, feature_size)`):
            The encoder's features.
        codes (`list[torch.LongTensor]`, each of shape `(kept,)`):
            Codes of the kept patches in raster order, in `[0, codebook_size)`.
        keep_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`):
            The kept patches.
        keep_log_probs (`torch.FloatTensor` of shape `(batch_size, num_patches, 2)`):
            The selector's log-probabilities of keeping and dropping, in fp32.
        merged (`list[torch.FloatTensor]`, each of shape `(kept, hidden_size)`):
            Kept rows after the merger.
        quantized (`list[torch.FloatTensor]`, each of shape `(kept, codebook_dim)`):
            The codebook's rows of the codes.
        hidden_states, attentions (`tuple[torch.FloatTensor]`, *optional*):
            The encoder's own, where they are asked for.
    """

    last_hidden_state: torch.FloatTensor | None = None
    codes: list[torch.LongTensor] | None = None
    keep_mask: torch.BoolTensor | None = None
    keep_log_probs: torch.FloatTensor | None = None
    merged: list[torch.FloatTensor] | None = None
    quantized: list[torch.FloatTensor] | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None


class FeatureEmbedding(nn.Module):
    """Brings encoder features to the width of selector and merger, with learned positions where asked for."""

    def __init__(self, config: LaVITVisualTokenizerConfig):
        super().__init__()
        self.projection = (
            nn.Identity()
            if config.feature_size == config.hidden_size
            else nn.Linear(config.feature_size, config.hidden_size)
        )
        self.position_embedding = (
            nn.Parameter(torch.zeros(1, config.num_patches, config.hidden_size))
            if config.use_position_embeddings
            else None
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        hidden_states = self.projection(features)
        return hidden_states if self.position_embedding is None else hidden_states + self.position_embedding


class LaVITVisualTokenizerPreTrainedModel(PreTrainedModel):
    config: LaVITVisualTokenizerConfig
    config_class = LaVITVisualTokenizerConfig
    base_model_prefix = "visual_tokenizer"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    # A device map may cut between these, but not where they index rows by masks.
    _no_split_modules = ["TokenSelector", "TokenMerger", "VectorQuantizer"]
    _keep_in_fp32_modules_strict = ["selector"]

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, nn.Embedding):
            # The codebook, whose rows are compared with vectors of unit length.
            init.normal_(module.weight, std=self.config.codebook_dim**-0.5)
            return
        super()._init_weights(module)
        if isinstance(module, FeatureEmbedding) and module.position_embedding is not None:
            init.normal_(module.position_embedding, std=self.config.initializer_range)


class LaVITVisualTokenizer(LaVITVisualTokenizerPreTrainedModel):
    r"""
    The dynamic visual tokenizer of LaVIT (arXiv 2309.04669, section 3.1): a vision encoder, a selector that
    keeps about a third of the patches, a merger that folds the dropped ones into the kept, and a codebook.

    Loads from a repo of its own or out of a full LaVIT repo, reading its own weights only.

    Example:

    ```python
    >>> from lavit_hf import LaVITImageProcessor, LaVITVisualTokenizer

    >>> image_processor = LaVITImageProcessor.from_pretrained(path)
    >>> visual_tokenizer = LaVITVisualTokenizer.from_pretrained(path, selection="threshold")
    >>> codes = visual_tokenizer(**image_processor(images, return_tensors="pt")).codes
    ```
    """

    # What else a full LaVIT repo or a checkpoint of stage 1 holds.
    _keys_to_ignore_on_load_unexpected = {
        r"^language_model\.",
        r"^understanding\.",
        r"^detokenizer\.",
        r"^codebook_trainer\.",
    }

    def __init__(self, config: LaVITVisualTokenizerConfig, encoder: PreTrainedModel | None = None):
        super().__init__(config)
        self.encoder = LaVITVisionEncoder(config, encoder)
        self.embedding = FeatureEmbedding(config)
        self.selector = TokenSelector(config)
        self.merger = TokenMerger(config)
        self.quantizer = VectorQuantizer(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.encoder.model.get_input_embeddings()

    def encode(self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> BaseModelOutput:
        """
        Runs the encoder alone.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, image_size, image_size)`):
                Normalised pixels, as the image processor gives them.

        Returns:
            `BaseModelOutput`: `last_hidden_state` holds the features, `(batch_size, num_patches, feature_size)`.

        Raises:
            ValueError: If `pixel_values` has another shape, no floating dtype, or values that are not finite.
        """
        self._check_pixel_values(pixel_values)
        return self.encoder(pixel_values, **kwargs)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> LaVITVisualTokenizerOutput:
        r"""
        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, image_size, image_size)`):
                Normalised pixels, as the image processor gives them.
            keep_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`, *optional*):
                Patches to keep. By default the selector decides, by the rule `config.selection`.
            generator (`torch.Generator`, *optional*):
                Source of the draws under `selection="sample"`; torch's global one by default.

        Returns:
            [`LaVITVisualTokenizerOutput`].

        Raises:
            ValueError: If `pixel_values` or `keep_mask` has a wrong shape, dtype or content.
        """
        encoded = self.encode(pixel_values, **kwargs)
        outputs = self.tokenize(encoded.last_hidden_state, keep_mask, generator)
        for name in ("hidden_states", "attentions"):
            if getattr(encoded, name) is not None:
                outputs[name] = getattr(encoded, name)
        return outputs

    def tokenize(
        self,
        features: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> LaVITVisualTokenizerOutput:
        r"""
        All that follows on the encoder, for features that were computed before.

        Args:
            features (`torch.Tensor` of shape `(batch_size, num_patches, feature_size)`):
                What [`~LaVITVisualTokenizer.encode`] gave.
            keep_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`, *optional*):
                Patches to keep. By default the selector decides, by the rule `config.selection`.
            generator (`torch.Generator`, *optional*):
                Source of the draws under `selection="sample"`; torch's global one by default.

        Returns:
            [`LaVITVisualTokenizerOutput`].

        Raises:
            ValueError: If `keep_mask` has a wrong shape, dtype or content.
        """
        hidden_states = self.embedding(features)
        keep_mask, keep_log_probs = self.selector(hidden_states, keep_mask, generator)
        merged = self.merger(hidden_states, keep_mask)
        quantized, codes = self.quantizer(merged)
        return LaVITVisualTokenizerOutput(
            last_hidden_state=features,
            codes=split_by_image(codes, keep_mask),
            keep_mask=keep_mask > 0.5,
            keep_log_probs=keep_log_probs,
            merged=split_by_image(merged, keep_mask),
            quantized=split_by_image(quantized, keep_mask),
        )

    def _check_pixel_values(self, pixel_values: torch.Tensor) -> None:
        channels, size = getattr(self.config.encoder_config, "num_channels", 3), self.config.image_size
        if pixel_values.ndim != 4 or pixel_values.shape[1:] != (channels, size, size) or len(pixel_values) == 0:
            raise ValueError(
                f"pixel_values must have the shape (batch_size, {channels}, {size}, {size}), got "
                f"{tuple(pixel_values.shape)}: pass images through the image processor first."
            )
        if not pixel_values.is_floating_point():
            raise ValueError(
                f"pixel_values must be normalised floats, got {pixel_values.dtype}: "
                "pass images through the image processor first."
            )
        if not pixel_values.isfinite().all():
            raise ValueError("pixel_values holds NaN or infinite values: check the images they were made from.")


__all__ = ["LaVITVisualTokenizer", "LaVITVisualTokenizerOutput"]
