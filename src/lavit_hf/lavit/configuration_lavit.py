# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Configurations of LaVIT, the only place where sizes and ids are defined."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec
from transformers.utils import CONFIG_NAME
from transformers.utils.hub import DownloadKwargs, cached_file

from .atomic_saving import finish_interrupted_save, name_of
from .checkpoint_index import (
    check_not_a_part,
    find_weights_folder,
    read_model_type,
    visual_tokenizer_index_name,
)
from .keep_settings import check_keep_range, check_keep_settings
from .remote_code import ships_code
from .untrusted_files import check_counts, naming_checkpoint


@ships_code
class LaVITBaseConfig(PreTrainedConfig):
    """Base class of LaVIT's configurations."""

    def __post_init__(self, **kwargs):
        # transformers loses the attention implementation of each part when nesting it in another configuration.
        parts = list(_all_parts(self))
        chosen = [part._attn_implementation for part in parts]
        super().__post_init__(**kwargs)
        for part, implementation in zip(parts, chosen):
            part._attn_implementation_internal = part._attn_implementation or implementation

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict, dict]:
        finish_interrupted_save(pretrained_model_name_or_path)
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if not config_dict:  # transformers would use the defaults: a 7B model with random weights
            raise OSError(
                f"{pretrained_model_name_or_path} has no {CONFIG_NAME}: it is not a model, or it is incomplete."
            )
        return config_dict, kwargs

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        with naming_checkpoint(pretrained_model_name_or_path, cls.__name__):
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        check_counts(config_dict)
        return super().from_dict(config_dict, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs) -> None:
        folder = Path(save_directory)
        check_not_a_part(self.model_type, read_model_type(folder), name_of(folder))
        if find_weights_folder(folder) != folder:  # pipelines read it from there
            super().save_pretrained(find_weights_folder(folder))
        super().save_pretrained(folder, push_to_hub, **kwargs)


def _all_parts(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    """Yields the nested configurations, recursively."""
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if isinstance(part, PreTrainedConfig):
            yield part
            yield from _all_parts(part)


@strict
class LaVITDetokenizerConfig(LaVITBaseConfig):
    r"""
    Configuration of the detokenizer, which reconstructs the encoder's features from codes and projects them to the
    condition of a diffusion U-Net. The defaults are those of LaVIT-7B's low-resolution detokenizer.

    Args:
        num_patches (`int`, *optional*, defaults to 256):
            Number of features reconstructed for each image, each from one learned query.
        feature_size (`int`, *optional*, defaults to 1408):
            Width of the reconstructed features, which is the encoder's width.
        codebook_dim (`int`, *optional*, defaults to 32):
            Width of the codebook's vectors.
        hidden_size (`int`, *optional*, defaults to 1408):
            Width of the blocks.
        num_hidden_layers (`int`, *optional*, defaults to 12):
            Number of blocks.
        num_place_layers (`int`, *optional*, defaults to 0):
            Number of layers of the place head, which predicts the patch of each code from the sequence of codes. With
            0, as in the released models, all that the blocks know about a code's position is its rank.
        num_attention_heads (`int`, *optional*, defaults to 16):
            Number of attention heads.
        intermediate_size (`int`, *optional*, defaults to 6144):
            Width of the blocks' MLP.
        cross_attention_dims (`list[int]`, *optional*, defaults to `[768]`):
            Widths of the projections that are concatenated to form the U-Net's `encoder_hidden_states`. Leave it empty
            if only the features are needed.
        use_condition_positions (`bool`, *optional*, defaults to `False`):
            Whether to add learned position embeddings to the condition, for features without position information.
        pooled_projection_dim (`int`, *optional*):
            Width of the pooled condition (SDXL's `text_embeds`). If `None`, there is no pooled condition.
        num_negative_embeds (`int`, *optional*, defaults to 0):
            Number of stored embeddings at the start of the negative condition (Stable Diffusion's empty prompt). With
            0, the negative condition is all zeros.
    """

    model_type = "lavit_detokenizer"
    base_config_key = "detokenizer_config"

    num_patches: int = 256
    feature_size: int = 1408
    codebook_dim: int = 32
    hidden_size: int = 1408
    num_hidden_layers: int = 12
    num_place_layers: int = 0
    num_attention_heads: int = 16
    intermediate_size: int = 6144
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    attention_dropout: float | int = 0.0
    cross_attention_dims: list[int] | tuple[int, ...] = (768,)
    use_condition_positions: bool = False
    pooled_projection_dim: int | None = None
    num_negative_embeds: int = 0
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        _check_divisible(self)
        if self.pooled_projection_dim is not None and self.feature_size % self.num_attention_heads:
            raise ValueError(
                f"the pooled condition needs a feature_size ({self.feature_size}) divisible by num_attention_heads "
                f"({self.num_attention_heads})."
            )
        if not 0 <= self.num_negative_embeds <= self.num_patches:
            raise ValueError(
                f"num_negative_embeds must lie between 0 and the {self.num_patches} rows of the condition, got "
                f"{self.num_negative_embeds}."
            )


class SelectionRule(NamedTuple):
    """
    Rule by which a selector keeps patches.

    Args:
        name (`str`):
            `"sample"`, `"threshold"`, `"ratio"`, `"count"`, or `"error"`. With `"error"`, the selector keeps all
            patches, and the visual tokenizer then searches for the smallest sufficient number.
        keep_threshold (`float`, *optional*):
            Keep probability above which patches are kept with `"threshold"`.
        num_kept (`int`, *optional*):
            Number of patches kept per image, if known in advance.
        keep_error (`float`, *optional*):
            Maximum error with `"error"`.
    """

    name: str
    keep_threshold: float | None = None
    num_kept: int | None = None
    keep_error: float | None = None


@strict
class LaVITVisualTokenizerConfig(LaVITBaseConfig):
    r"""
    Configuration of the dynamic visual tokenizer. The defaults are those of the released LaVIT-7B.

    Args:
        encoder_config (`PreTrainedConfig` or `dict`, *optional*):
            Configuration of any vision model of transformers. Defaults to EVA-CLIP ViT-g/14 as a `Blip2VisionConfig`.
        encoder_output (`str`, *optional*, defaults to `"last_hidden_state"`):
            Source of the encoder's features: `"last_hidden_state"` (a vision transformer's patches) or
            `"feature_maps"` (a backbone's feature maps at several strides, brought to one grid and concatenated).
        encoder_final_norm (`bool`, *optional*, defaults to `False`):
            Whether to apply the encoder's final norm. LaVIT uses the residual stream before it.
        image_size (`int`, *optional*):
            Side length of the square input in pixels. Defaults to the encoder's.
        patch_size (`int`, *optional*):
            Side length of a patch in pixels. Defaults to the encoder's.
        feature_size (`int`, *optional*):
            Width of the encoder's features. Defaults to the encoder's `hidden_size`.
        hidden_size (`int`, *optional*):
            Width of the selector and the merger. Defaults to `feature_size`; if they differ, a linear layer is added.
        standardize_features (`bool`, *optional*, defaults to `False`):
            Whether to normalize each channel of the features to mean 0 and variance 1 with statistics stored along
            with the weights. Use it for encoders whose channels differ a lot in scale.
        use_position_embeddings (`bool`, *optional*, defaults to `False`):
            Whether to add learned position embeddings to the features. The features of convolutional encoders contain
            no position information.
        selector_feature_size (`int`, *optional*):
            Number of leading channels of the encoder's raw features that the selector reads. The selection phase of
            training reconstructs only these channels. Use it for encoders whose later channels see the whole image, so
            that every patch contains information about all others. By default, the selector reads the same features
            as the merger: all channels, embedded.
        num_hidden_layers (`int`, *optional*, defaults to 12):
            Number of merger blocks.
        num_attention_heads (`int`, *optional*, defaults to 16):
            Number of attention heads in the merger.
        intermediate_size (`int`, *optional*, defaults to 6144):
            Width of the MLP in the merger.
        merger_softmax (`str`, *optional*, defaults to `"original"`):
            `"original"` is the softmax of the released models, in which masked keys keep a small weight. It is needed
            to reproduce their exact outputs. `"masked"` is the standard softmax, computed only for the kept patches,
            which takes about a third of the time.
        merge_dropped (`bool`, *optional*, defaults to `True`):
            Whether the merger reads dropped patches. If not, their content is lost, as in an experiment of the paper.
        selection (`str`, *optional*, defaults to `"sample"`):
            How to choose the kept patches: `"sample"` samples from the selector's distribution, as in the released
            models, `"threshold"` keeps those with a keep probability above `keep_threshold`, `"ratio"` keeps the best
            `keep_ratio` of all, and `"count"` keeps the best `keep_count`. At least one patch is always kept.
        keep_threshold (`float`, *optional*, defaults to 0.5):
            Keep probability above which patches are kept with `"threshold"`.
        keep_ratio (`float`, *optional*, defaults to 1/3):
            Fraction of patches kept with `"ratio"`, and the target of the ratio loss in training.
        keep_count (`int`, *optional*):
            Number of patches kept with `"count"`.
        codebook_size (`int`, *optional*, defaults to 16384):
            Number of codes.
        codebook_dim (`int`, *optional*, defaults to 32):
            Width of the codebook's vectors.
        detokenizer_config (`LaVITDetokenizerConfig` or `dict`, *optional*):
            Configuration of the feature decoder used to train the tokenizer. Not needed for tokenization.
        ratio_loss_weight (`float`, *optional*, defaults to 2.0):
            Weight of the squared distance between `keep_ratio` and the fraction of patches kept in a batch.
        image_ratio_loss_weight (`float`, *optional*, defaults to 0.0):
            Weight of the same distance computed per image. A small weight prevents images from keeping all patches or
            just one; a large weight makes all images keep the same number.
        selection_gradient (`str`, *optional*, defaults to `"antithetic"`):
            How the selection phase of training computes the selector's gradient: `"antithetic"` (from the
            reconstruction errors of two masks sampled with opposite noise) or `"straight_through"` (from the gradient
            of the masks, as in the paper; requires the attention implementation `"sdpa"` or `"eager"`).
        place_loss_weight (`float`, *optional*, defaults to 0.1):
            Weight of the place head's cross-entropy, if the detokenizer has a place head.
        commitment_loss_weight (`float`, *optional*, defaults to 0.25):
            Weight of the squared distance between projected features and the vectors of their codes.
        codebook_update (`str`, *optional*, defaults to `"ema"`):
            How the codebook learns: `"ema"` (moving averages of the features assigned to each code) or `"gradient"`.
        codebook_decay (`float`, *optional*, defaults to 0.99):
            Decay of these averages.
        codebook_restart_threshold (`float`, *optional*, defaults to 0.5):
            A code is restarted from one of the batch's features if the running average of features assigned to it per
            batch falls below this number.

    Example:

    ```python
    >>> from lavit_hf import LaVITVisualTokenizer, LaVITVisualTokenizerConfig

    >>> config = LaVITVisualTokenizerConfig(selection="threshold", num_hidden_layers=2)
    >>> config.num_patches
    256
    ```
    """

    model_type = "lavit_visual_tokenizer"
    base_config_key = "visual_tokenizer_config"
    sub_configs_defaults = {
        "encoder_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="blip_2_vision_model",
            init_kwargs={"num_hidden_layers": 40, "initializer_range": 0.02},
        ),
        "detokenizer_config": SubConfigSpec(config_class=LaVITDetokenizerConfig, optional=True),
    }

    encoder_config: dict | PreTrainedConfig | None = None
    encoder_output: Literal["last_hidden_state", "feature_maps"] = "last_hidden_state"
    encoder_final_norm: bool = False
    image_size: int | None = None
    patch_size: int | None = None
    feature_size: int | None = None
    hidden_size: int | None = None
    standardize_features: bool = False
    use_position_embeddings: bool = False
    selector_feature_size: int | None = None
    num_hidden_layers: int = 12
    num_attention_heads: int = 16
    intermediate_size: int = 6144
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    attention_dropout: float | int = 0.0
    merger_softmax: Literal["original", "masked"] = "original"
    merge_dropped: bool = True
    selection: Literal["sample", "threshold", "ratio", "count"] = "sample"
    keep_threshold: float = 0.5
    keep_ratio: float = 1 / 3
    keep_count: int | None = None
    codebook_size: int = 16384
    codebook_dim: int = 32
    detokenizer_config: dict | PreTrainedConfig | None = None
    ratio_loss_weight: float = 2.0
    image_ratio_loss_weight: float = 0.0
    selection_gradient: Literal["antithetic", "straight_through"] = "antithetic"
    place_loss_weight: float = 0.1
    commitment_loss_weight: float = 0.25
    codebook_update: Literal["ema", "gradient"] = "ema"
    codebook_decay: float = 0.99
    codebook_restart_threshold: float = 0.5
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        self.image_size = self._or_from_encoder("image_size", "image_size")
        self.patch_size = self._or_from_encoder("patch_size", "patch_size")
        self.feature_size = self._or_from_encoder("feature_size", "hidden_size")
        if self.hidden_size is None:
            self.hidden_size = self.feature_size
        _check_divisible(self)
        if self.selector_feature_size is not None and not 1 <= self.selector_feature_size <= self.feature_size:
            raise ValueError(
                f"selector_feature_size must lie between 1 and the {self.feature_size} channels of the features, got "
                f"{self.selector_feature_size}."
            )
        self.check_selection()

    def check_selection(self) -> None:
        """Raises a `ValueError` if the selection settings are invalid. They may have changed since loading."""
        if self.selection == "count" and not 1 <= (self.keep_count or 0) <= self.num_patches:
            raise ValueError(
                f"selection='count' needs keep_count between 1 and the {self.num_patches} patches, "
                f"got {self.keep_count}."
            )
        for name in ("keep_ratio", "keep_threshold"):
            check_keep_range(name, getattr(self, name))

    def selection_rule(self, keep_mask: Any = None, **settings: float | None) -> SelectionRule:
        """
        Returns the rule by which a call keeps patches.

        Args:
            keep_mask (`torch.BoolTensor`, *optional*):
                The mask passed to the call, which overrides any rule.
            settings:
                The call's settings that override `selection`, as in [`KeepSettings`].

        Returns:
            [`SelectionRule`].

        Raises:
            ValueError: If more than one is passed, one is out of range, or the configuration's own are invalid.
        """
        if keep_mask is None:
            self.check_selection()
        given = check_keep_settings(keep_mask=keep_mask, **settings)
        if "keep_threshold" in given:
            return SelectionRule("threshold", given["keep_threshold"])
        if "keep_ratio" in given:
            return SelectionRule("ratio", num_kept=self._share_of_patches(given["keep_ratio"]))
        if "keep_error" in given:
            return SelectionRule("error", keep_error=given["keep_error"])
        return SelectionRule(self.selection, self.keep_threshold, None if keep_mask is not None else self.num_kept)

    def _or_from_encoder(self, name: str, encoder_name: str) -> int:
        value = getattr(self, name)
        value = getattr(self.encoder_config, encoder_name, None) if value is None else value
        if not isinstance(value, int):
            raise ValueError(
                f"{name} cannot be read from the encoder's configuration "
                f"({type(self.encoder_config).__name__}.{encoder_name} is {value!r}). Pass `{name}=` as a number."
            )
        return value

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict, dict]:
        index = visual_tokenizer_index_name(kwargs.pop("weights_variant", None))
        hub_kwargs = {name: kwargs[name] for name in DownloadKwargs.__annotations__ if name in kwargs}
        config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if cls.base_config_key in config_dict and _has_file(pretrained_model_name_or_path, index, hub_kwargs):
            # In the repo of a full LaVIT, open only the files that contain the visual tokenizer.
            config_dict[cls.base_config_key]["transformers_weights"] = index
        return config_dict, kwargs

    @property
    def num_patches(self) -> int:
        """Number of patches of an image, before selection."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def num_kept(self) -> int | None:
        """Number of patches that the selection rule keeps of every image; `None` if it depends on the image."""
        if self.selection == "ratio":
            return self._share_of_patches(self.keep_ratio)
        return self.keep_count if self.selection == "count" else None

    def _share_of_patches(self, ratio: float) -> int:
        return max(1, round(ratio * self.num_patches))


def _has_file(repo: str | os.PathLike, name: str, hub_kwargs: dict) -> bool:
    if os.path.isfile(repo):
        return False
    return cached_file(repo, name, _raise_exceptions_for_missing_entries=False, **hub_kwargs) is not None


def _check_divisible(config: PreTrainedConfig) -> None:
    if config.hidden_size % config.num_attention_heads:
        raise ValueError(
            f"hidden_size ({config.hidden_size}) of {type(config).__name__} is not divisible by "
            f"num_attention_heads ({config.num_attention_heads})."
        )


# Ids that are derived from the vocabulary and never saved.
_DERIVED_IDS = ("image_token_id", "image_start_token_id", "image_end_token_id", "first_code_token_id")


@strict
class LaVITConfig(LaVITBaseConfig):
    r"""
    Configuration of a full LaVIT: a visual tokenizer and a causal language model over text and image ids.

    The vocabulary consists of the text ids, `[IMG]`, `[/IMG]`, and one id for each code of the visual tokenizer. All
    ids are derived from `text_config.vocab_size`. The defaults are LLaMA-2-7B with 16,384 codes.

    Args:
        visual_tokenizer_config (`LaVITVisualTokenizerConfig` or `dict`, *optional*):
            Configuration of the visual tokenizer.
        text_config (`PreTrainedConfig` or `dict`, *optional*):
            Configuration of any causal language model of transformers. Its `vocab_size` includes the image ids.
            Defaults to LLaMA-2-7B.
        understanding_selector (`bool`, *optional*, defaults to `False`):
            Whether the understanding branch has its own selector instead of the visual tokenizer's.
        understanding_merger (`bool`, *optional*, defaults to `True`):
            Whether the understanding branch has its own merger, as in the released models, instead of the visual
            tokenizer's.
        num_control_tokens (`int`, *optional*, defaults to 3):
            Number of control tokens at the start of the text vocabulary (LLaMA's `<unk>`, `<s>`, `</s>`).

    Example:

    ```python
    >>> from lavit_hf import LaVITConfig

    >>> config = LaVITConfig()
    >>> config.image_start_token_id, config.image_end_token_id, config.first_code_token_id
    (32000, 32001, 32002)
    ```
    """

    model_type = "lavit"
    auto_map = {}  # TRL reads it even where a repo ships no code
    keys_to_ignore_at_inference = ["cache", "attention_mask", "image_outputs"]
    sub_configs_defaults = {
        "visual_tokenizer_config": LaVITVisualTokenizerConfig,
        "text_config": SubConfigSpec(
            config_class=AutoConfig,
            model_type="llama",
            init_kwargs={"vocab_size": 48386, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5},
        ),
    }

    visual_tokenizer_config: dict | PreTrainedConfig | None = None
    text_config: dict | PreTrainedConfig | None = None
    understanding_selector: bool = False
    understanding_merger: bool = True
    num_control_tokens: int = 3

    def __post_init__(self, **kwargs):
        derived_ids = {name: kwargs.pop(name) for name in _DERIVED_IDS if name in kwargs}
        super().__post_init__(**kwargs)
        if not isinstance(getattr(self.text_config, "vocab_size", None), int):
            raise ValueError(
                f"text_config ({type(self.text_config).__name__}) has no vocab_size. Pass the configuration of the "
                "language model alone; a larger model returns it from get_text_config()."
            )
        if self.text_vocab_size <= 0:
            raise ValueError(
                f"text_config.vocab_size ({self.text_config.vocab_size}) leaves no text ids next to the "
                f"{self.visual_tokenizer_config.codebook_size} codes and the two image marks. It must count them all."
            )
        if self.understanding_selector and self.visual_tokenizer_config.selector_feature_size is not None:
            raise ValueError(
                "a selector of the understanding branch reads embedded features. With understanding_selector=True, "
                "do not set selector_feature_size in visual_tokenizer_config."
            )
        if self.understanding_selector and not self.understanding_merger:
            raise ValueError(
                "the visual tokenizer's merger is for the patches that its own selector keeps. With "
                "understanding_selector=True, keep understanding_merger=True."
            )
        for name, value in derived_ids.items():
            if value != getattr(self, name):
                raise ValueError(
                    f"{name}={value} contradicts the vocabulary, where it is {getattr(self, name)}. Leave it out, or "
                    "change text_config.vocab_size."
                )

    @property
    def tie_word_embeddings(self) -> bool:
        """Whether the output head shares its weights with the language model's embeddings."""
        return getattr(self.text_config, "tie_word_embeddings", False)

    @tie_word_embeddings.setter
    def tie_word_embeddings(self, value: bool) -> None:
        self.text_config.tie_word_embeddings = value

    @property
    def text_vocab_size(self) -> int:
        """Number of text ids, which come first."""
        return self.text_config.vocab_size - self.visual_tokenizer_config.codebook_size - 2

    @property
    def pad_token_id(self) -> int | None:
        """Id of the padding token, stored in the language model's configuration."""
        return getattr(self.text_config, "pad_token_id", None)

    @pad_token_id.setter
    def pad_token_id(self, value: int | None) -> None:
        self.text_config.pad_token_id = value

    @property
    def image_token_id(self) -> int:
        """Id of `[IMG]`, under the name that generic code uses to find images."""
        return self.image_start_token_id

    @property
    def image_start_token_id(self) -> int:
        """Id of `[IMG]`."""
        return self.text_vocab_size

    @property
    def image_end_token_id(self) -> int:
        """Id of `[/IMG]`."""
        return self.text_vocab_size + 1

    @property
    def first_code_token_id(self) -> int:
        """Id of code 0. The id of code `k` is this plus `k`."""
        return self.text_vocab_size + 2


__all__ = ["LaVITConfig", "LaVITDetokenizerConfig", "LaVITVisualTokenizerConfig"]
