# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The detokenizer: rebuilds the encoder's features from codes, and computes the condition of a diffusion U-Net."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.masking_utils import create_bidirectional_mask
from transformers.utils import ModelOutput

from ..lavit.atomic_saving import LoadsWholeRepos, saves_atomically
from ..lavit.configuration_lavit import LaVITDetokenizerConfig
from ..lavit.modeling_layers import LaVITLayer
from ..lavit.repo_names import NamesOfRepos, rename_layers
from .grid_positions import grid_positions
from .place_head import PlaceHead


# Maps the names of weights in a repo to those in memory.
register_checkpoint_conversion_mapping(LaVITDetokenizerConfig.model_type, rename_layers("^"), overwrite=True)


@dataclass
class LaVITDetokenizerOutput(ModelOutput):
    r"""
    Output of [`LaVITDetokenizer`].

    Args:
        features (`torch.FloatTensor` of shape `(batch_size, num_patches, feature_size)`):
            The rebuilt features of the vision encoder.
        prompt_embeds (`torch.FloatTensor` of shape `(batch_size, num_patches, cross_attention_dim)`, *optional*):
            The rows that the U-Net attends to; `cross_attention_dim` is the sum of the configuration's
            `cross_attention_dims`.
        pooled_prompt_embeds (`torch.FloatTensor` of shape `(batch_size, pooled_projection_dim)`, *optional*):
            The pooled condition, if the configuration has one.
        place_log_probs (`torch.FloatTensor` of shape `(batch_size, longest, num_patches)`, *optional*):
            Log-probabilities of the patch that each code belongs to, if the configuration has a place head. Values
            after the codes of an image are padding.
    """

    features: torch.FloatTensor | None = None
    prompt_embeds: torch.FloatTensor | None = None
    pooled_prompt_embeds: torch.FloatTensor | None = None
    place_log_probs: torch.FloatTensor | None = None


class AttentionPooling(nn.Module):
    """CLIP's attention pooling: the mean of the rows is prepended and attends to all rows (arXiv 2103.00020)."""

    def __init__(self, config: LaVITDetokenizerConfig):
        super().__init__()
        size = config.feature_size
        self.num_heads = config.num_attention_heads
        self.position_embedding = nn.Parameter(torch.zeros(config.num_patches + 1, size))
        self.q_proj = nn.Linear(size, size)
        self.k_proj = nn.Linear(size, size)
        self.v_proj = nn.Linear(size, size)
        self.out_proj = nn.Linear(size, config.pooled_projection_dim)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(batch_size, num_patches, feature_size)` to `(batch_size, pooled_projection_dim)`."""
        rows = torch.cat([features.mean(dim=1, keepdim=True), features], dim=1) + self.position_embedding
        query, key, value = (
            proj(sources).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for proj, sources in ((self.q_proj, rows[:, :1]), (self.k_proj, rows), (self.v_proj, rows))
        )
        pooled = nn.functional.scaled_dot_product_attention(query, key, value)  # [B, heads, 1, head_dim]
        return self.out_proj(pooled.flatten(start_dim=1))


class LaVITDetokenizerPreTrainedModel(LoadsWholeRepos, NamesOfRepos, PreTrainedModel):
    config: LaVITDetokenizerConfig
    config_class = LaVITDetokenizerConfig
    base_model_prefix = "detokenizer"
    main_input_name = "code_rows"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["LaVITLayer"]

    save_pretrained = saves_atomically(PreTrainedModel.save_pretrained)

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, AttentionPooling):
            init.normal_(module.position_embedding, std=module.position_embedding.shape[-1] ** -0.5)
        elif isinstance(module, LaVITDetokenizer):
            init.normal_(module.position_embedding, std=self.config.initializer_range)
            init.normal_(module.query_embedding, std=self.config.initializer_range)
            if module.place_head is not None:
                # Nearby places have similar embeddings, so an error of one patch matters little.
                waves = grid_positions(self.config.num_patches, self.config.hidden_size)
                init.copy_(module.place_head.embedding.weight, waves)
                init.copy_(module.query_embedding, waves[None])
            if module.condition_position is not None:
                init.normal_(module.condition_position, std=self.config.initializer_range)
            if module.negative_embeds is not None:
                init.zeros_(module.negative_embeds)


class LaVITDetokenizer(LaVITDetokenizerPreTrainedModel):
    r"""
    The detokenizer of LaVIT (arXiv 2309.04669, section 3.1). Learned queries, one for each patch, attend to the codes
    of an image and rebuild the encoder's features. Projections of these features condition the U-Net, and the features
    themselves train the visual tokenizer.

    The configuration selects the released low-resolution form (one projection) or the high-resolution form (two
    projections and a pooled condition).

    Args:
        config ([`LaVITDetokenizerConfig`]):
            The configuration.

    Example:

    ```python
    >>> from lavit_hf import LaVITDetokenizer

    >>> detokenizer = LaVITDetokenizer.from_pretrained(path, subfolder="detokenizer")
    >>> outputs = detokenizer(visual_tokenizer(pixel_values).quantized)
    >>> outputs.features.shape
    torch.Size([2, 256, 1408])
    ```
    """

    def __init__(self, config: LaVITDetokenizerConfig):
        super().__init__(config)
        shape = (1, config.num_patches, config.hidden_size)
        self.in_proj = nn.Linear(config.codebook_dim, config.hidden_size)
        self.position_embedding = nn.Parameter(torch.zeros(shape))
        self.query_embedding = nn.Parameter(torch.zeros(shape))
        self.place_head = PlaceHead(config) if config.num_place_layers else None
        self.layers = nn.ModuleList(LaVITLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.feature_projection = nn.Sequential(
            nn.Linear(config.hidden_size, config.hidden_size),
            nn.Tanh(),
            nn.Linear(config.hidden_size, config.feature_size),
        )
        self.condition_projections = nn.ModuleList(
            nn.Linear(config.feature_size, size) for size in config.cross_attention_dims
        )
        self.condition_position = (
            nn.Parameter(torch.zeros(1, config.num_patches, sum(config.cross_attention_dims)))
            if config.use_condition_positions
            else None
        )
        self.pooler = None if config.pooled_projection_dim is None else AttentionPooling(config)
        negative_shape = (1, config.num_negative_embeds, sum(config.cross_attention_dims))
        self.register_buffer("negative_embeds", torch.zeros(negative_shape) if config.num_negative_embeds else None)
        # Belongs to the visual tokenizer and is saved with it.
        self.register_buffer("codebook", None, persistent=False)
        self.post_init()

    def set_codebook(self, codebook: torch.Tensor) -> None:
        """
        Shares the visual tokenizer's codebook, so that the detokenizer accepts codes. The codebook is not saved with
        the detokenizer.

        Args:
            codebook (`torch.Tensor` of shape `(codebook_size, codebook_dim)`):
                The visual tokenizer's `quantizer.codebook.weight`.

        Raises:
            ValueError: If the width of its rows does not match the detokenizer.
        """
        if codebook.ndim != 2 or codebook.shape[1] != self.config.codebook_dim:
            raise ValueError(
                f"the codebook must have shape (codebook_size, {self.config.codebook_dim}), got "
                f"{tuple(codebook.shape)}: the visual tokenizer and the detokenizer do not belong together."
            )
        self.codebook = codebook.detach()

    def forward(
        self,
        code_rows: Sequence[torch.Tensor] | None = None,
        codes: Sequence[torch.Tensor] | None = None,
        places: Sequence[torch.Tensor] | None = None,
        **kwargs,
    ) -> LaVITDetokenizerOutput:
        r"""
        Rebuilds features and computes the condition from codes.

        Args:
            code_rows (`Sequence[torch.Tensor]`, each of shape `(kept, codebook_dim)`, *optional*):
                Codebook rows of the codes of each image, in raster order; `kept` varies from image to image.
            codes (`Sequence[torch.LongTensor]`, each of shape `(kept,)`, *optional*):
                Codes of each image, which are looked up in `codebook`. Used instead of `code_rows`.
            places (`Sequence[torch.LongTensor]`, each of shape `(kept,)`, *optional*):
                Patches that the codes of each image belong to, instead of the place head's prediction.
            kwargs:
                Passed to the attention implementation.

        Returns:
            [`LaVITDetokenizerOutput`].

        Raises:
            ValueError: If both or neither of `code_rows` and `codes` are given, an image has no codes, more than
                `num_patches` codes or codes that are not in the codebook, or there is no codebook; if `places` are
                given to a detokenizer without a place head, or do not match the codes.
        """
        if (code_rows is None) == (codes is None):
            raise ValueError("pass either code_rows or codes, not both.")
        code_rows = self.look_up(codes) if code_rows is None else code_rows
        self._check_code_rows(code_rows)
        if places is not None:
            self._check_places(places, code_rows)
        features, place_log_probs = self._rebuild_features(code_rows, places, **kwargs)
        return LaVITDetokenizerOutput(
            features=features,
            prompt_embeds=self.project_condition(features) if self.condition_projections else None,
            pooled_prompt_embeds=None if self.pooler is None else self.pooler(features),
            place_log_probs=place_log_probs,
        )

    def project_condition(self, features: torch.Tensor) -> torch.Tensor:
        """
        Projects features to the condition that the U-Net attends to.

        Args:
            features (`torch.Tensor` of shape `(batch_size, num_patches, feature_size)`):
                Features of images, either rebuilt or from the encoder.

        Returns:
            `torch.Tensor` of shape `(batch_size, num_patches, sum(cross_attention_dims))`.
        """
        condition = torch.cat([projection(features) for projection in self.condition_projections], dim=-1)
        return condition if self.condition_position is None else condition + self.condition_position

    def look_up(self, codes: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """
        Looks up codes in the codebook.

        Args:
            codes (`Sequence[torch.LongTensor]`, each of shape `(kept,)`):
                Codes of each image, in `[0, codebook_size)`.

        Returns:
            `list[torch.Tensor]`: the rows, each of shape `(kept, codebook_dim)`.

        Raises:
            ValueError: If there is no codebook, or a code is not in it.
        """
        if self.codebook is None:
            raise ValueError(
                "the detokenizer has no codebook to look codes up in. Call `set_codebook` with the visual "
                "tokenizer's `quantizer.codebook.weight`, or pass rows of it as `code_rows`."
            )
        for number, image in enumerate(codes):
            _check_codes(number, image, len(self.codebook))
        return [self.codebook[image.to(self.codebook.device)] for image in codes]

    def negative_condition(self, prompt_embeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        The negative condition for guidance: the stored rows, if any, followed by zeros.

        Args:
            prompt_embeds (`torch.Tensor` of shape `(batch_size, num_patches, sum(cross_attention_dims))`):
                The condition of the same images.

        Returns:
            The negative condition, of the same shape, and a mask of shape `(batch_size, num_patches)` that is true for
            the rows the U-Net may attend to, or `None` if it may attend to all.
        """
        embeds = torch.zeros_like(prompt_embeds)
        if self.negative_embeds is None:
            return embeds, None
        stored = self.negative_embeds.shape[1]
        embeds[:, :stored] = self.negative_embeds.to(embeds)
        mask = torch.arange(embeds.shape[1], device=embeds.device) < stored
        return embeds, mask.expand(embeds.shape[0], -1)

    def _rebuild_features(
        self, code_rows: Sequence[torch.Tensor], places: Sequence[torch.Tensor] | None, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        lengths = [len(rows) for rows in code_rows]
        rows = torch.cat([rows.to(self.device, self.dtype) for rows in code_rows])
        sources = pad_sequence(self.in_proj(rows).split(lengths), batch_first=True)
        longest = sources.shape[1]
        sources = sources + self.position_embedding[:, :longest]
        real = torch.arange(longest, device=sources.device) < torch.tensor(lengths, device=sources.device)[:, None]
        place_log_probs = None
        if self.place_head is not None:
            place_log_probs = self.place_head(sources, real)
            sources = sources + self._embed_places(place_log_probs, places)
        hidden_states = self.query_embedding.expand(len(lengths), -1, -1)
        mask = create_bidirectional_mask(
            self.config, hidden_states, attention_mask=real, encoder_hidden_states=sources
        )
        for layer in self.layers:
            hidden_states = layer(hidden_states, sources, None, mask, **kwargs)
        return self.feature_projection(self.norm(hidden_states)), place_log_probs

    def _embed_places(self, log_probs: torch.Tensor, places: Sequence[torch.Tensor] | None) -> torch.Tensor:
        if places is None:
            return self.place_head.embed(log_probs)
        return self.place_head.embedding(pad_sequence(places, batch_first=True).to(self.device))

    def _check_code_rows(self, code_rows: Sequence[torch.Tensor]) -> None:
        if len(code_rows) == 0:
            raise ValueError("there are no images to detokenize: the list is empty.")
        limit, width = self.config.num_patches, self.config.codebook_dim
        for number, rows in enumerate(code_rows):
            if rows.ndim != 2 or rows.shape[1] != width:
                raise ValueError(
                    f"image {number} must have code rows of shape (kept, {width}), got {tuple(rows.shape)}."
                )
            if not 1 <= len(rows) <= limit:
                raise ValueError(f"image {number} has {len(rows)} codes, but needs between one and {limit}.")

    def _check_places(self, places: Sequence[torch.Tensor], code_rows: Sequence[torch.Tensor]) -> None:
        if self.place_head is None:
            raise ValueError("places were passed, but this detokenizer has no place head (num_place_layers is 0).")
        if len(places) != len(code_rows):
            raise ValueError(f"there are places for {len(places)} images, but codes for {len(code_rows)}.")
        for number, (image, rows) in enumerate(zip(places, code_rows)):
            if image.shape != rows.shape[:1] or image.is_floating_point():
                raise ValueError(
                    f"image {number} must have integer places of shape ({len(rows)},), one for each code; got "
                    f"{image.dtype} of shape {tuple(image.shape)}."
                )
            outside = image[(image < 0) | (image >= self.config.num_patches)]
            if len(outside):
                raise ValueError(
                    f"image {number} has the place {int(outside[0])}, but an image has "
                    f"{self.config.num_patches} patches."
                )


def _check_codes(number: int, codes: torch.Tensor, codebook_size: int) -> None:
    if codes.ndim != 1 or codes.is_floating_point():
        raise ValueError(
            f"image {number} must have integer codes of shape (kept,), got {codes.dtype} of shape "
            f"{tuple(codes.shape)}."
        )
    outside = codes[(codes < 0) | (codes >= codebook_size)]
    if len(outside):
        raise ValueError(f"image {number} has the code {int(outside[0])}, but the codebook has {codebook_size} rows.")


__all__ = ["LaVITDetokenizer", "LaVITDetokenizerOutput", "LaVITDetokenizerPreTrainedModel"]
