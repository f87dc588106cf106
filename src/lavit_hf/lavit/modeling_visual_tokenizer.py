# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
The dynamic visual tokenizer, which turns an image into a sequence of codes whose length depends on the image's content
(paper, section 3.1).

In order: the encoder, the selector that chooses which patches to keep, the merger that merges the dropped patches into
the kept ones, the quantizer that assigns a code to each, and the model that combines them.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import one_hot
from transformers import (
    AutoBackbone,
    AutoModel,
    Blip2VisionConfig,
    Blip2VisionModel,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers import initialization as init
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import BackboneOutput, BaseModelOutput
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from .backbone_checks import check_encoder
from .checkpoint_index import VISUAL_TOKENIZER_INDEX_NAME, visual_tokenizer_index_name
from .configuration_lavit import LaVITVisualTokenizerConfig, SelectionRule
from .fewest_patches import find_fewest
from .input_checks import check_has_values, check_is_dense
from .keep_settings import KeepSettings
from .modeling_base import LaVITBaseModel
from .modeling_layers import LaVITLayer, concat_rows, factors_to_scores, gather_rows
from .own_pixel_decoder import attach_own_detokenizer
from .remote_code import ships_code
from .repo_names import QUANTIZER_NAMES, SELECTOR_NAMES, rename_layers, rename_parts
from .token_sampling import Generators, check_generators, is_shared


# transformers has a class for the EVA-CLIP encoder, but doesn't register it with AutoModel.
AutoModel.register(Blip2VisionConfig, Blip2VisionModel, exist_ok=True)

# Maps weight names in a repo to names in memory.
register_checkpoint_conversion_mapping(
    LaVITVisualTokenizerConfig.model_type,
    [
        *rename_layers("merger."),
        *rename_parts("selector", SELECTOR_NAMES),
        *rename_parts("quantizer", QUANTIZER_NAMES),
    ],
    overwrite=True,
)

FINAL_NORM_NAMES = ("post_layernorm", "layernorm", "norm")


def _find_final_norm(model: PreTrainedModel) -> str:
    for name in FINAL_NORM_NAMES:
        if isinstance(getattr(model, name, None), nn.Module):
            return name
    raise ValueError(
        f"{type(model).__name__} has no final norm named one of {FINAL_NORM_NAMES} that could be skipped. Set "
        "encoder_final_norm=True to use its output unchanged."
    )


def _to_grid(feature_map: torch.Tensor, grid_size: int) -> torch.Tensor:
    """Brings a square map to `grid_size`. Keeps all values of a finer map, and interpolates a coarser one."""
    side = feature_map.shape[-1]
    if side > grid_size and side % grid_size == 0:
        return nn.functional.pixel_unshuffle(feature_map, side // grid_size)
    if side == grid_size:
        return feature_map
    # In fp32: torch has no antialiasing in bf16 on CPU.
    resized = nn.functional.interpolate(
        feature_map.float(), size=(grid_size, grid_size), mode="bilinear", antialias=True
    )
    return resized.to(feature_map.dtype)


# Batch size of convolutional encoders on a CPU, small enough for activations to stay in the CPU's cache.
CHUNK_SIZE = 8


def _run_in_chunks(model: nn.Module, pixel_values: torch.Tensor, **kwargs) -> BackboneOutput:
    """Runs a backbone on a few images at a time, in the memory format in which CPU convolutions are fastest."""
    pixel_values = pixel_values.contiguous(memory_format=torch.channels_last)
    chunks = [model(pixel_values=chunk, return_dict=True, **kwargs) for chunk in pixel_values.split(CHUNK_SIZE)]
    if len(chunks) == 1:
        return chunks[0]
    return BackboneOutput(
        **{
            name: tuple(torch.cat(parts) for parts in zip(*(chunk[name] for chunk in chunks), strict=True))
            for name in chunks[0]
        }
    )


class FeatureStandardizer(nn.Module):
    """Normalizes each channel to mean 0 and variance 1 with stored statistics."""

    def __init__(self, feature_size: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(feature_size))
        self.register_buffer("std", torch.ones(feature_size))

    def fit(self, features: torch.Tensor) -> None:
        """Replaces the stored statistics by those of `features`, of shape `(..., feature_size)`."""
        std, mean = torch.std_mean(features.float().flatten(end_dim=-2), dim=0)
        self.mean.copy_(mean)
        self.std.copy_(std.where(std > 0, 1))  # constant channels become zero

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        # Loading casts weights, but leaves these buffers in fp32.
        return ((features - self.mean) / self.std).to(features.dtype)


class LaVITVisionEncoder(nn.Module):
    """
    The visual tokenizer's encoder, which returns the patches of a vision transformer, or feature maps of a backbone at
    several strides.

    As in the paper, it is frozen: its weights receive no gradients, and it is never in train mode.
    """

    def __init__(self, config: LaVITVisualTokenizerConfig, model: PreTrainedModel | None = None):
        super().__init__()
        self.config = config
        if model is None:
            auto_class = AutoBackbone if config.encoder_output == "feature_maps" else AutoModel
            # The dtype of the enclosing model, not the one that the encoder's configuration was saved with.
            model = auto_class.from_config(config.encoder_config, dtype=torch.get_default_dtype())
        skips_norm = config.encoder_output == "last_hidden_state" and not config.encoder_final_norm
        final_norm = _find_final_norm(model) if skips_norm else None
        self.model = model
        self.standardizer = FeatureStandardizer(config.feature_size) if config.standardize_features else None
        check_encoder(self)  # before the model is changed, which may be the caller's
        if final_norm is not None:
            setattr(model, final_norm, nn.Identity())
        self.train()

    def train(self, mode: bool = True) -> "LaVITVisionEncoder":
        """Stays in evaluation mode, regardless of `mode`, and freezes all weights."""
        # Freezes every time, because loading creates new parameters. Batch norms would learn even without gradients.
        return super().train(False).requires_grad_(False)

    def forward(self, pixel_values: torch.Tensor, **kwargs) -> BaseModelOutput:
        """
        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, image_size, image_size)`):
                Normalized pixels.
            kwargs:
                Arguments of the wrapped encoder's forward, such as `output_hidden_states`.

        Returns:
            `BaseModelOutput`: `last_hidden_state` contains the features, `(batch_size, num_patches, feature_size)`, in
            raster order; `hidden_states` and `attentions` are those of the wrapped encoder.
        """
        self._match_statistics()
        pixel_values = pixel_values.to(self.model.dtype)
        if self._runs_in_chunks(pixel_values):
            outputs = _run_in_chunks(self.model, pixel_values, **kwargs)
        else:
            outputs = self.model(pixel_values=pixel_values, return_dict=True, **kwargs)
        if self.config.encoder_output == "last_hidden_state":
            # Class and register tokens come before the patches.
            features = outputs.last_hidden_state[:, -self.config.num_patches :]
        else:
            grid_size = self.config.image_size // self.config.patch_size
            maps = [_to_grid(feature_map, grid_size) for feature_map in outputs.feature_maps]
            features = torch.cat(maps, dim=1).flatten(2).transpose(1, 2)
        if self.standardizer is not None:
            features = self.standardizer(features)
        return BaseModelOutput(features, outputs.hidden_states, outputs.attentions)

    def _runs_in_chunks(self, pixel_values: torch.Tensor) -> bool:
        """Whether the encoder is convolutional and on a CPU. In a compiled graph, the compiler chooses the layout."""
        is_convolutional = self.config.encoder_output == "feature_maps"
        return is_convolutional and pixel_values.device.type == "cpu" and not torch.compiler.is_compiling()

    def _match_statistics(self) -> None:
        """Casts the statistics of batch norms if only their weights were cast, as PEFT does before QLoRA."""
        for module in self.model.modules():
            statistics = getattr(module, "running_mean", None)
            if statistics is not None and module.weight is not None and statistics.dtype != module.weight.dtype:
                module.to(module.weight.dtype)


KEEP, DROP = 0, 1  # the selector's two classes


class PatchSelection(NamedTuple):
    """
    The kept patches of a batch of images.

    Args:
        keep_mask (`torch.Tensor` of shape `(batch_size, num_patches)`):
            Mask of kept patches: boolean, or the straight-through mask of [`TokenSelector`].
        log_probs (`torch.FloatTensor` of shape `(batch_size, num_patches, 2)`):
            The selector's log-probabilities of keeping and dropping each patch.
        rebuild_errors (`torch.FloatTensor` of shape `(batch_size,)`, *optional*):
            With `keep_error`, the reconstruction error of each image.
        reaches_keep_error (`torch.BoolTensor` of shape `(batch_size,)`, *optional*):
            With `keep_error`, whether each image reaches it.
    """

    keep_mask: torch.Tensor
    log_probs: torch.Tensor
    rebuild_errors: torch.Tensor | None = None
    reaches_keep_error: torch.Tensor | None = None


class TokenSelector(nn.Module):
    """
    Scores each patch based on its own features and the average of the image. Always runs in fp32, because rounded
    scores would change which patches are kept.
    """

    def __init__(self, config: LaVITVisualTokenizerConfig):
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.feature_projection = (
            nn.Identity()
            if config.selector_feature_size is None
            else nn.Linear(config.selector_feature_size, size, dtype=torch.float32)
        )
        self.norm = nn.LayerNorm(size, eps=config.layer_norm_eps, dtype=torch.float32)
        self.input_projection = nn.Linear(size, size, dtype=torch.float32)
        self.classifier = nn.Sequential(
            nn.Linear(size, size // 2, dtype=torch.float32),
            nn.GELU(),
            nn.Linear(size // 2, size // 4, dtype=torch.float32),
            nn.GELU(),
            nn.Linear(size // 4, 2, dtype=torch.float32),
        )

    def _apply(self, fn, recurse=True):
        # `model.to(torch.bfloat16)` moves the selector, but doesn't change its dtype.
        def move(tensor: torch.Tensor) -> torch.Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(move, recurse)

    def forward(
        self,
        features: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: Generators = None,
        rule: SelectionRule | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Args:
            features (`torch.Tensor` of shape `(batch_size, num_patches, hidden_size)`):
                The embedded encoder features, or the first `config.selector_feature_size` channels of the raw
                features if that is set.
            keep_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`, *optional*):
                Patches to keep. By default, the rule in `config.selection` decides and keeps at least one.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Random number generator for `"sample"`, or a list with one per image. Defaults to torch's global one.
            rule ([`SelectionRule`], *optional*):
                Output of [`~LaVITVisualTokenizerConfig.selection_rule`] if the call overrides the configured rule.

        Returns:
            The keep mask, `(batch_size, num_patches)`, and the log-probabilities of keeping and dropping each patch,
            `(batch_size, num_patches, 2)`, in fp32. The mask is boolean or, if gradients are recorded, a
            straight-through mask of ones and zeros that passes gradients to the probabilities.

        Raises:
            ValueError: If `keep_mask` has a wrong shape or dtype, or the selection settings are invalid.
        """
        log_probs = self.log_probs(features)
        if keep_mask is None:
            return self._select(log_probs, generator, rule or self.config.selection_rule()), log_probs
        _check_keep_mask(keep_mask, log_probs)
        return keep_mask & ~log_probs[..., KEEP].isnan(), log_probs

    def log_probs(self, features: torch.Tensor) -> torch.Tensor:
        """Computes log-probabilities of keeping and dropping, `(batch_size, num_patches, 2)`, in fp32."""
        with torch.autocast(features.device.type, enabled=False):
            hidden_states = self.norm(self.feature_projection(features.float()))
            hidden_states = nn.functional.gelu(self.input_projection(hidden_states))
            local, pooled = hidden_states.chunk(2, dim=-1)
            pooled = pooled.mean(dim=1, keepdim=True).expand_as(local)
            return self.classifier(torch.cat([local, pooled], dim=-1)).log_softmax(dim=-1)

    def _select(self, log_probs: torch.Tensor, generator: Generators, rule: SelectionRule) -> torch.Tensor:
        if rule.name == "sample":
            log_probs = log_probs + _gumbel_noise(log_probs, generator)
        log_odds = log_probs[..., KEEP] - log_probs[..., DROP]
        kept = _chosen(log_odds, rule)
        best = one_hot(log_odds.argmax(dim=-1), log_odds.shape[-1]).bool()
        # Images of NaN keep no patch, which raises an error when kept patches are counted.
        kept = kept | (best & ~kept.any(dim=-1, keepdim=True) & ~log_odds.isnan())
        if not log_odds.requires_grad:
            return kept
        probs = log_odds.sigmoid()
        return kept + (probs - probs.detach())  # exactly ones and zeros


def _chosen(log_odds: torch.Tensor, rule: SelectionRule) -> torch.Tensor:
    if rule.name == "error":
        return ~log_odds.isnan()
    if rule.name == "sample":
        return log_odds >= 0
    if rule.name == "threshold":
        return log_odds > math.log(rule.keep_threshold / (1 - rule.keep_threshold))
    best = log_odds.topk(rule.num_kept, dim=-1).indices
    return torch.zeros_like(log_odds, dtype=torch.bool).scatter(-1, best, True) & ~log_odds.isnan()


def _gumbel_noise(log_probs: torch.Tensor, generator: Generators) -> torch.Tensor:
    if is_shared(generator):
        return _draw_gumbel_noise(log_probs, generator)
    check_generators(generator, len(log_probs))
    # Images that share a generator are sampled together, just as without the other images.
    runs = [list(run) for _, run in groupby(generator, key=id)]
    parts = log_probs.split([len(run) for run in runs])
    return torch.cat([_draw_gumbel_noise(part, run[0]) for part, run in zip(parts, runs)])


def _draw_gumbel_noise(log_probs: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    # Sampled as in torch's gumbel_softmax, so that a seed gives the same mask as in the released models. Sampling runs
    # on the generator's device, so that a CPU generator gives the same result on any device.
    device = log_probs.device if generator is None else generator.device
    noise = torch.empty_like(log_probs, device=device, memory_format=torch.legacy_contiguous_format)
    return -noise.exponential_(generator=generator).log().to(log_probs.device)


def _check_keep_mask(keep_mask: torch.Tensor, log_probs: torch.Tensor) -> None:
    _check_values(keep_mask, "keep_mask", log_probs.device)
    expected = log_probs.shape[:2]
    if keep_mask.shape != expected or keep_mask.dtype != torch.bool:
        raise ValueError(
            f"keep_mask must be boolean, with one value per patch and shape {tuple(expected)}; got {keep_mask.dtype} "
            f"of shape {tuple(keep_mask.shape)}."
        )


def _check_values(tensor: torch.Tensor, name: str, device: torch.device) -> None:
    # A model on the meta device takes inputs on that device.
    (check_is_dense if device.type == "meta" else check_has_values)(tensor, name)


class KeptCounts(NamedTuple):
    """Number of kept patches per image. In a compiled graph, the numbers are only known at run time."""

    numbers: list[int]
    are_known: bool = True

    def longest(self, num_patches: int) -> int:
        """The largest number, or the number of all patches if it is unknown, because attention needs a length."""
        return max(self.numbers) if self.are_known else num_patches


def count_kept(keep_mask: torch.Tensor, num_kept: int | None = None) -> KeptCounts:
    """
    Counts the kept patches of each image. Unless the number is known in advance, the host waits for the device
    here, but only once. On a CPU, where there is nothing to wait for, they are always counted.

    Args:
        keep_mask (`torch.Tensor` of shape `(batch_size, num_patches)`):
            Mask of kept patches: boolean, or the straight-through mask of [`TokenSelector`].
        num_kept (`int`, *optional*):
            The number of kept patches, if it is the same for every image.

    Returns:
        [`KeptCounts`].

    Raises:
        ValueError: If an image keeps no patch, for example because its pixels aren't finite.
    """
    if num_kept is not None and not _is_at_hand(keep_mask):
        return KeptCounts([num_kept] * len(keep_mask))
    counts = (keep_mask > 0.5).sum(dim=1).tolist()
    if torch.compiler.is_compiling():
        for count in counts:
            torch._check(count >= 1)
            torch._check(count <= keep_mask.shape[1])
        return KeptCounts(counts, are_known=False)
    if 0 in counts:
        raise ValueError(
            f"no patch of image {counts.index(0)} is kept, but every image needs at least one. Either its keep_mask "
            "is empty, or its pixel_values are NaN or infinite. Check the image that they were made from."
        )
    return KeptCounts(counts)


def _is_at_hand(tensor: torch.Tensor) -> bool:
    """Whether the values of a tensor can be read without waiting for a device."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


class TokenMerger(nn.Module):
    """
    Blocks in which each kept patch attends to the kept patches before it and to all dropped patches.

    With `merger_softmax="original"`, all patches pass through the blocks, because the released models' softmax gives
    even masked patches a small weight. With `"masked"`, only the kept ones do, and images without dropped patches
    attend to all of their patches instead.
    """

    def __init__(self, config: LaVITVisualTokenizerConfig):
        super().__init__()
        self.config = config
        self.source_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.layers = nn.ModuleList(LaVITLayer(config, is_causal=True) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, features: torch.Tensor, keep_mask: torch.Tensor, counts: KeptCounts | None = None
    ) -> torch.Tensor:
        """
        Args:
            features (`torch.Tensor` of shape `(batch_size, num_patches, hidden_size)`):
                The embedded encoder features.
            keep_mask (`torch.Tensor` of shape `(batch_size, num_patches)`):
                Mask of kept patches: boolean, or the straight-through mask of [`TokenSelector`].
            counts ([`KeptCounts`], *optional*):
                Number of kept patches per image, if known.

        Returns:
            `torch.Tensor` of shape `(total_kept, hidden_size)`: The merged features of all kept patches in raster
            order, one image after the other.
        """
        counts = count_kept(keep_mask) if counts is None else counts
        kept = keep_mask > 0.5
        if self.config.merger_softmax == "original" or keep_mask.requires_grad:
            hidden_states = self._merge_all(features, keep_mask)
            hidden_states = gather_rows(hidden_states, kept, counts.longest(kept.shape[1]))
        else:
            hidden_states = self._merge_kept(features, kept, counts)
        return self.norm(concat_rows(hidden_states, counts.numbers))

    def merge_all(self, features: torch.Tensor, keep_mask: torch.Tensor) -> torch.Tensor:
        """
        Merges all patches, including what each dropped patch would be merged to if it were kept. This way, the
        gradients of all patches reach a straight-through mask through the attention masks.

        Args:
            features (`torch.Tensor` of shape `(batch_size, num_patches, hidden_size)`):
                The embedded encoder features.
            keep_mask (`torch.Tensor` of shape `(batch_size, num_patches)`):
                Mask of kept patches: boolean, or the straight-through mask of [`TokenSelector`].

        Returns:
            `torch.Tensor` of shape `(batch_size, num_patches, hidden_size)`.
        """
        return self.norm(self._merge_all(features, keep_mask))

    def _sources(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Returns the inputs of cross-attention, which are all zero unless dropped patches are merged."""
        sources = self.source_norm(hidden_states)
        return sources if self.config.merge_dropped else torch.zeros_like(sources)

    def _merge_all(self, hidden_states, keep_mask) -> torch.Tensor:
        sources = self._sources(hidden_states)
        num_patches = keep_mask.shape[1]
        keep = keep_mask.to(torch.float32)[:, None, None, :]
        causal = torch.ones(num_patches, num_patches, dtype=torch.float32, device=keep.device).tril()
        itself = torch.eye(num_patches, dtype=torch.bool, device=keep.device)
        self_mask, cross_mask = torch.where(itself, 1.0, causal * keep), 1.0 - keep
        if self.config.merger_softmax == "masked":
            cross_mask = cross_mask.masked_fill((cross_mask == 0).all(dim=-1, keepdim=True), 1.0)
            self_mask, cross_mask = factors_to_scores(self_mask), factors_to_scores(cross_mask.expand_as(self_mask))
        for layer in self.layers:
            hidden_states = layer(hidden_states, sources, self_mask, cross_mask)
        return hidden_states

    def _merge_kept(self, hidden_states, kept, counts) -> torch.Tensor:
        sources = self._sources(hidden_states)
        num_patches = kept.shape[1]
        hidden_states = gather_rows(hidden_states, kept, counts.longest(num_patches))
        # Images without dropped patches attend to all of their patches.
        num_sources = counts
        if counts.are_known:
            num_sources = KeptCounts([num_patches - count % num_patches for count in counts.numbers])
        is_source = ~kept | kept.all(dim=1, keepdim=True)
        sources = gather_rows(sources, is_source, num_sources.longest(num_patches))
        real = torch.arange(sources.shape[1], device=kept.device) < is_source.sum(dim=1, keepdim=True)
        are_equal = counts.are_known and len(set(num_sources.numbers)) == 1
        # Padding comes last, where the causal mask hides it anyway.
        self_mask = create_causal_mask(self.config, hidden_states, attention_mask=None, cache=None)
        cross_mask = create_bidirectional_mask(
            self.config,
            hidden_states,
            attention_mask=None if are_equal else real,
            encoder_hidden_states=sources,
            allow_is_bidirectional_skip=are_equal,  # checking whether a mask can be skipped would wait for the device
        )
        for layer in self.layers:
            hidden_states = layer(hidden_states, sources, self_mask, cross_mask)
        return hidden_states


class VectorQuantizer(nn.Module):
    """Projects features to the codebook's width, normalizes them and finds the nearest code."""

    def __init__(self, config: LaVITVisualTokenizerConfig):
        super().__init__()
        self.input_projection = nn.Linear(config.hidden_size, config.hidden_size)
        self.output_projection = nn.Linear(config.hidden_size, config.codebook_dim)
        self.codebook = nn.Embedding(config.codebook_size, config.codebook_dim)

    def project(self, merged: torch.Tensor) -> torch.Tensor:
        """
        Args:
            merged (`torch.Tensor` of shape `(..., hidden_size)`):
                Output of the merger.

        Returns:
            `torch.Tensor` of shape `(..., codebook_dim)`, normalized to unit length.
        """
        return nn.functional.normalize(self.output_projection(torch.tanh(self.input_projection(merged))), dim=-1)

    def forward(self, merged: torch.Tensor, quantize: Callable | None = None) -> tuple[torch.Tensor, ...]:
        """
        Args:
            merged (`torch.Tensor` of shape `(..., hidden_size)`):
                Output of the merger.
            quantize (`Callable`, *optional*):
                Function applied to the projected features, `(..., codebook_dim)`, instead of looking up their codes.
                Used to train the codebook.

        Returns:
            The nearest codebook vectors (unnormalized), `(..., codebook_dim)`, with a straight-through gradient to the
            projected features, and their codes, `(...,)`; or the output of `quantize`.
        """
        projected = self.project(merged)
        if quantize is not None:
            return quantize(projected)
        codes = self.nearest(projected)
        quantized = self.codebook(codes)
        if projected.requires_grad:
            quantized = projected + (quantized - projected).detach()
        return quantized, codes

    def nearest(self, projected: torch.Tensor) -> torch.Tensor:
        """Finds the codes `(...,)` nearest to `projected` `(..., codebook_dim)` by squared distance, in fp32."""
        with torch.autocast(projected.device.type, enabled=False):
            # Call the module so that offloaded weights are loaded.
            rows = self.codebook(torch.arange(self.codebook.num_embeddings, device=projected.device)).float()
            # |z - e|^2 without |z|^2, which is the same for all codes.
            distances = rows.square().sum(dim=-1) - 2 * projected.float() @ rows.T
        return distances.argmin(dim=-1)


@dataclass
class LaVITVisualTokenizerOutput(ModelOutput):
    r"""
    Output of [`LaVITVisualTokenizer`]. The lists contain one tensor per image; `kept` varies between images.

    Args:
        last_hidden_state (`torch.FloatTensor` of shape `(batch_size, num_patches, feature_size)`):
            The encoder's features.
        codes (`list[torch.LongTensor]`, each of shape `(kept,)`):
            Codes of the kept patches in raster order, in `[0, codebook_size)`.
        keep_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`):
            The kept patches.
        keep_log_probs (`torch.FloatTensor` of shape `(batch_size, num_patches, 2)`):
            The selector's log-probabilities of keeping and dropping each patch, in fp32.
        merged (`list[torch.FloatTensor]`, each of shape `(kept, hidden_size)`):
            Features of the kept patches after the merger.
        quantized (`list[torch.FloatTensor]`, each of shape `(kept, codebook_dim)`):
            The codebook vectors of the codes.
        hidden_states, attentions (`tuple[torch.FloatTensor]`, *optional*):
            Those of the encoder, if requested.
        rebuild_errors (`torch.FloatTensor` of shape `(batch_size,)`, *optional*):
            With `keep_error`, the reconstruction error of the encoder's features: 1 minus the mean cosine similarity.
        reaches_keep_error (`torch.BoolTensor` of shape `(batch_size,)`, *optional*):
            With `keep_error`, whether each image reaches it. Otherwise, all its patches are kept.
    """

    last_hidden_state: torch.FloatTensor | None = None
    codes: list[torch.LongTensor] | None = None
    keep_mask: torch.BoolTensor | None = None
    keep_log_probs: torch.FloatTensor | None = None
    merged: list[torch.FloatTensor] | None = None
    quantized: list[torch.FloatTensor] | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    rebuild_errors: torch.FloatTensor | None = None
    reaches_keep_error: torch.BoolTensor | None = None


class FeatureEmbedding(nn.Module):
    """Projects encoder features to the width of selector and merger, and optionally adds learned positions."""

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


class LaVITVisualTokenizerPreTrainedModel(LaVITBaseModel):
    config: LaVITVisualTokenizerConfig
    config_class = LaVITVisualTokenizerConfig
    base_model_prefix = "visual_tokenizer"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    # A device map can split between these modules, but not inside them, where masks index rows.
    _no_split_modules = ["TokenSelector", "TokenMerger", "VectorQuantizer"]
    _keep_in_fp32_modules_strict = ["selector"]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, config=None, variant=None, **kwargs):
        # The configuration names the visual tokenizer's weights in the repo of a full LaVIT.
        if not isinstance(config, PreTrainedConfig):
            kwargs["weights_variant"] = variant
        elif getattr(config, "transformers_weights", None) == VISUAL_TOKENIZER_INDEX_NAME:
            config = copy.deepcopy(config)
            config.transformers_weights = visual_tokenizer_index_name(variant)
        return super().from_pretrained(pretrained_model_name_or_path, *args, config=config, variant=variant, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module):
        if isinstance(module, nn.Embedding):
            # The codebook, whose vectors are compared with vectors of unit length.
            init.normal_(module.weight, std=self.config.codebook_dim**-0.5)
            return
        super()._init_weights(module)
        if isinstance(module, FeatureEmbedding) and module.position_embedding is not None:
            init.normal_(module.position_embedding, std=self.config.initializer_range)


@ships_code
class LaVITVisualTokenizer(LaVITVisualTokenizerPreTrainedModel):
    r"""
    The dynamic visual tokenizer of LaVIT (arXiv 2309.04669, section 3.1): a vision encoder, a selector that
    keeps about a third of the patches, a merger that merges the dropped patches into the kept ones, and a codebook.

    Can be loaded from its own repo or from that of a full LaVIT, in which case only its own weights are read.

    In train mode, the selector, the merger and the quantizer's projections receive gradients. The encoder is frozen
    and stays in evaluation mode. The codebook gets no gradient; [`LaVITVisualTokenizerForPreTraining`] trains it.

    Args:
        config ([`LaVITVisualTokenizerConfig`]):
            The configuration.
        encoder (`PreTrainedModel`, *optional*):
            The vision encoder. By default, it is built from the configuration.

    Raises:
        ValueError: If the encoder does not return the patches that the configuration describes.

    Example:

    ```python
    >>> from lavit_hf import LaVITImageProcessor, LaVITVisualTokenizer

    >>> image_processor = LaVITImageProcessor.from_pretrained(path)
    >>> visual_tokenizer = LaVITVisualTokenizer.from_pretrained(path, selection="threshold")
    >>> pixel_values = image_processor(images, return_tensors="pt").pixel_values
    >>> codes = visual_tokenizer(pixel_values).codes
    >>> fewer = visual_tokenizer(pixel_values, keep_ratio=0.1).codes
    >>> as_many_as_it_takes = visual_tokenizer(pixel_values, keep_error=0.3).codes
    ```
    """

    # Other weights in a full LaVIT repo or in a stage 1 checkpoint.
    _keys_to_ignore_on_load_unexpected = {
        r"^language_model\.",
        r"^understanding\.",
        r"^detokenizer\.",
        r"^codebook_trainer\.",
        r"^scaffold\.",
    }

    def __init__(self, config: LaVITVisualTokenizerConfig, encoder: PreTrainedModel | None = None):
        super().__init__(config)
        self.encoder = LaVITVisionEncoder(config, encoder)
        self.embedding = FeatureEmbedding(config)
        self.selector = TokenSelector(config)
        self.merger = TokenMerger(config)
        self.quantizer = VectorQuantizer(config)
        # In a dictionary, so that it isn't registered as a submodule: it is neither saved nor moved with this model.
        self._attached: dict[str, nn.Module] = {}
        self.post_init()

    def attach_detokenizer(self, detokenizer: nn.Module) -> None:
        """
        Attaches a detokenizer for `keep_error` and [`~LaVITVisualTokenizer.rebuild_errors`], replacing that of the
        repo from which the model was loaded.

        Args:
            detokenizer ([`LaVITDetokenizer`]):
                A detokenizer that was trained with or for this visual tokenizer.
        """
        self._attached["detokenizer"] = detokenizer

    @property
    def has_detokenizer(self) -> bool:
        """Whether a detokenizer is attached."""
        return "detokenizer" in self._attached

    def get_input_embeddings(self) -> nn.Module | None:
        """Returns the encoder's input embeddings, or `None` if transformers can't find any, as in most backbones."""
        try:
            return self.encoder.model.get_input_embeddings()
        except NotImplementedError:
            return None  # accelerate calls this for every model that it wraps with FSDP

    def encode(self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> BaseModelOutput:
        """
        Runs the encoder alone.

        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, image_size, image_size)`):
                Normalized pixels, as returned by the image processor.

        Returns:
            `BaseModelOutput`: `last_hidden_state` contains the features, `(batch_size, num_patches, feature_size)`.

        Raises:
            ValueError: If `pixel_values` has a wrong shape or isn't floating-point.
        """
        self._check_pixel_values(pixel_values)
        return self.encoder(pixel_values, **kwargs)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: Generators = None,
        keep_threshold: float | None = None,
        keep_ratio: float | None = None,
        keep_error: float | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> LaVITVisualTokenizerOutput:
        r"""
        Args:
            pixel_values (`torch.Tensor` of shape `(batch_size, num_channels, image_size, image_size)`):
                Normalized pixels, as returned by the image processor.
            keep_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`, *optional*):
                Patches to keep. By default, the selector decides with the rule in `config.selection`.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Random number generator for `selection="sample"`, or a list with one per image. Defaults to torch's
                global one.
            keep_threshold (`float`, *optional*):
                Keep patches with a keep probability above this, instead of applying the rule in `config.selection`.
            keep_ratio (`float`, *optional*):
                Keep this fraction of the patches, those with the highest log-odds: `round(keep_ratio * num_patches)`
                per image, and at least one.
            keep_error (`float`, *optional*):
                Keep as few of the best patches as possible such that the detokenizer reconstructs the features with at
                most this error, 1 minus the mean cosine similarity. Images that never reach it keep all patches. See
                [`find_fewest`].

        Returns:
            [`LaVITVisualTokenizerOutput`].

        Raises:
            ValueError: If `pixel_values` or `keep_mask` has a wrong shape, dtype or content; if more than one of
                `keep_mask` and the three settings is passed, or one is out of range; or, with `keep_error`, if there
                is no detokenizer.
        """
        settings = {"keep_threshold": keep_threshold, "keep_ratio": keep_ratio, "keep_error": keep_error}
        self.config.selection_rule(keep_mask, **settings)  # fail before the encoder runs
        encoded = self.encode(pixel_values, **kwargs)
        outputs = self.tokenize(encoded.last_hidden_state, keep_mask, generator, **settings)
        for name in ("hidden_states", "attentions"):
            if getattr(encoded, name) is not None:
                outputs[name] = getattr(encoded, name)
        return outputs

    def tokenize(
        self,
        features: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: Generators = None,
        **keep_settings: Unpack[KeepSettings],
    ) -> LaVITVisualTokenizerOutput:
        r"""
        Tokenizes features that were computed before, without running the encoder.

        Args:
            features (`torch.Tensor` of shape `(batch_size, num_patches, feature_size)`):
                Output of [`~LaVITVisualTokenizer.encode`].
            keep_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`, *optional*):
                Patches to keep. By default, the selector decides with the rule in `config.selection`.
            generator (`torch.Generator` or `list[torch.Generator]`, *optional*):
                Random number generator for `selection="sample"`, or a list with one per image. Defaults to torch's
                global one.
            keep_settings:
                `keep_threshold`, `keep_ratio` or `keep_error`, as in [`~LaVITVisualTokenizer.forward`].

        Returns:
            [`LaVITVisualTokenizerOutput`].

        Raises:
            ValueError: If `keep_mask` has a wrong shape, dtype or content, or if a setting can't be used.
        """
        rule = self.config.selection_rule(keep_mask, **keep_settings)
        hidden_states = self.embedding(features)
        selection = self.choose_patches(features, hidden_states, keep_mask, generator, rule)
        counts = count_kept(selection.keep_mask, rule.num_kept)
        merged = self.merger(hidden_states, selection.keep_mask, counts)
        quantized, codes = self.quantizer(merged)
        return LaVITVisualTokenizerOutput(
            last_hidden_state=features,
            codes=list(codes.split(counts.numbers)),
            keep_mask=selection.keep_mask > 0.5,
            keep_log_probs=selection.log_probs,
            merged=list(merged.split(counts.numbers)),
            quantized=list(quantized.split(counts.numbers)),
            rebuild_errors=selection.rebuild_errors,
            reaches_keep_error=selection.reaches_keep_error,
        )

    def choose_patches(
        self,
        features: torch.Tensor,
        hidden_states: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: Generators = None,
        rule: SelectionRule | None = None,
        selector: TokenSelector | None = None,
    ) -> PatchSelection:
        """
        Runs a selector and, with `keep_error`, searches for the smallest sufficient number of patches.

        Args:
            features (`torch.Tensor` of shape `(batch_size, num_patches, feature_size)`):
                Output of [`~LaVITVisualTokenizer.encode`].
            hidden_states (`torch.Tensor` of shape `(batch_size, num_patches, hidden_size)`):
                The embedded features.
            keep_mask, generator, rule:
                Arguments of [`TokenSelector`].
            selector ([`TokenSelector`], *optional*):
                The selector, if not the model's own, such as that of the understanding branch.

        Returns:
            [`PatchSelection`].
        """
        select = partial(self.select, features) if selector is None else selector
        keep_mask, log_probs = select(hidden_states, keep_mask, generator, rule)
        if rule is None or rule.keep_error is None:
            return PatchSelection(keep_mask, log_probs)
        log_odds = log_probs[..., KEEP] - log_probs[..., DROP]
        found = [self._keep_fewest(*image, rule.keep_error) for image in zip(features, hidden_states, log_odds)]
        masks, errors = map(torch.stack, zip(*found, strict=True))
        return PatchSelection((keep_mask > 0.5) & masks, log_probs, errors, errors <= rule.keep_error)

    def merge_patches(self, hidden_states: torch.Tensor, keep_mask: torch.Tensor, counts: KeptCounts) -> torch.Tensor:
        """Runs [`TokenMerger`]. A method, because accelerate's hooks would move a module passed to another one."""
        return self.merger(hidden_states, keep_mask, counts)

    @torch.no_grad()
    def _keep_fewest(
        self, features: torch.Tensor, hidden_states: torch.Tensor, log_odds: torch.Tensor, keep_error: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Finds the mask and error of one image, independently of the others in the batch."""

        def errors_of(masks: torch.Tensor) -> torch.Tensor:
            repeated = (tensor.expand(len(masks), -1, -1) for tensor in (features, hidden_states))
            return self._rebuild_errors(*repeated, masks)

        return find_fewest(log_odds, errors_of, keep_error)

    @torch.no_grad()
    def rebuild_errors(self, features: torch.Tensor, keep_mask: torch.Tensor) -> torch.Tensor:
        """
        Computes the error of the detokenizer when it reconstructs the encoder's features from the codes of some
        patches.

        Args:
            features (`torch.Tensor` of shape `(batch_size, num_patches, feature_size)`):
                Output of [`~LaVITVisualTokenizer.encode`].
            keep_mask (`torch.BoolTensor` of shape `(batch_size, num_patches)`):
                Patches to keep, at least one per image.

        Returns:
            `torch.FloatTensor` of shape `(batch_size,)`: 1 minus the cosine similarity of reconstructed and original
            features, averaged over all patches, including the dropped ones.

        Raises:
            ValueError: If there is no detokenizer, or `keep_mask` keeps no patch of an image.
        """
        return self._rebuild_errors(features, self.embedding(features), keep_mask)

    def _rebuild_errors(
        self, features: torch.Tensor, hidden_states: torch.Tensor, keep_mask: torch.Tensor
    ) -> torch.Tensor:
        counts = count_kept(keep_mask)
        rows, _ = self.quantizer(self.merger(hidden_states, keep_mask, counts))
        rebuilt = self._fitting_detokenizer()(code_rows=rows.split(counts.numbers)).features
        cosines = nn.functional.cosine_similarity(rebuilt.to(features.device).float(), features.float(), dim=-1)
        return 1 - cosines.mean(dim=1)

    def _fitting_detokenizer(self) -> nn.Module:
        attach_own_detokenizer(self, self)
        detokenizer = self._attached["detokenizer"]
        for name in ("num_patches", "feature_size", "codebook_dim"):
            own, other = getattr(self.config, name), getattr(detokenizer.config, name)
            if own != other:
                raise ValueError(
                    f"the detokenizer's {name} is {other}, but the visual tokenizer's is {own}: they do not belong "
                    "together. Attach another one with visual_tokenizer.attach_detokenizer."
                )
        return detokenizer

    def select(
        self,
        features: torch.Tensor,
        hidden_states: torch.Tensor,
        keep_mask: torch.Tensor | None = None,
        generator: Generators = None,
        rule: SelectionRule | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Runs the selector on its inputs: the embedded features, or the first channels of the raw features.

        Args:
            features (`torch.Tensor` of shape `(batch_size, num_patches, feature_size)`):
                Output of [`~LaVITVisualTokenizer.encode`].
            hidden_states (`torch.Tensor` of shape `(batch_size, num_patches, hidden_size)`):
                The embedded features.
            keep_mask, generator, rule:
                Arguments of [`TokenSelector`].

        Returns:
            The keep mask and the log-probabilities, as in [`TokenSelector`].
        """
        width = self.config.selector_feature_size
        inputs = hidden_states if width is None else features[..., :width]
        return self.selector(inputs, keep_mask, generator, rule)

    def _check_pixel_values(self, pixel_values: torch.Tensor) -> None:
        _check_values(pixel_values, "pixel_values", self.device)
        channels, size = getattr(self.config.encoder_config, "num_channels", 3), self.config.image_size
        if pixel_values.ndim != 4 or pixel_values.shape[1:] != (channels, size, size) or len(pixel_values) == 0:
            raise ValueError(
                f"pixel_values must have shape (batch_size, {channels}, {size}, {size}), got "
                f"{tuple(pixel_values.shape)}. Pass images through the image processor first."
            )
        if not pixel_values.is_floating_point():
            raise ValueError(
                f"pixel_values must be normalized floats, got {pixel_values.dtype}. Pass images through the image "
                "processor first."
            )


__all__ = ["LaVITVisualTokenizer", "LaVITVisualTokenizerOutput"]
