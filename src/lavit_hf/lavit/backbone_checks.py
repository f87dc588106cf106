# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Checks of the models that a LaVIT is built on. Each model is tested first, and a model that would silently produce
wrong results is refused with a single-sentence error.

In order: postprocessing of logits in language models, running the parts of a language model, and checks of language
models and vision encoders.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel


# Postprocessing after the output head of some language models, by the name of the setting in their configuration.
AFTER_HEAD = {
    "logit_scale": lambda logits, scale: logits * scale,  # Cohere
    "logits_scaling": lambda logits, scale: logits / scale,  # Granite
    "lm_head_multiplier": lambda logits, scale: logits * scale,  # Falcon-H1
    "logits_mup_width_multiplier": lambda logits, scale: logits / scale,  # Inkling
    "final_logit_softcapping": lambda logits, cap: torch.tanh(logits / cap) * cap,  # Gemma
}


def apply_after_head(logits: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """Applies the settings in [`AFTER_HEAD`] to the logits `(..., vocab_size)` of a linear head."""
    for name, change in AFTER_HEAD.items():
        setting = getattr(config, name, None)
        if setting is not None:
            logits = change(logits, setting)
    return logits


def takes_positions(base_model: PreTrainedModel) -> bool:
    """Whether a language model takes `position_ids`. Models with positional biases, such as Bloom, don't."""
    return "position_ids" in inspect.signature(base_model.forward).parameters


def count_positions(attention_mask: torch.Tensor) -> torch.Tensor:
    """Computes positions from a mask of the same shape, `(batch_size, sequence_length)`, skipping masked ids."""
    return (attention_mask.cumsum(dim=-1) - 1).clamp(min=0)


def check_language_model(causal_model: PreTrainedModel, vocab_size: int | None = None) -> None:
    """
    Tests whether a LaVIT can be built on a language model. Models without weights aren't run, for example while a
    saved LaVIT is loaded. They were tested when the LaVIT was created.

    Args:
        causal_model (`PreTrainedModel`):
            A causal language model of transformers. It isn't modified.
        vocab_size (`int`, *optional*):
            Expected number of rows of its embeddings and its head. Defaults to that in its configuration.

    Raises:
        ValueError: If the model can't be split into a base model and a linear head, has a different vocabulary or no
            causal mask, treats embeddings differently from ids, ignores the padding mask, or can't continue from a
            cache of keys and values.
    """
    fault = _find_fault_in_parts(causal_model)
    fault = fault or _find_fault_in_vocabulary(causal_model, vocab_size or causal_model.config.vocab_size)
    fault = fault or _find_fault_in_ties(causal_model)
    if fault is None and not any(parameter.is_meta for parameter in causal_model.parameters()):
        fault = _find_fault_in_trials(causal_model)
    if fault is not None:
        raise ValueError(f"LaVIT cannot be built on {type(causal_model).__name__}: {fault}.")


def _find_fault_in_parts(causal_model: PreTrainedModel) -> str | None:
    if not isinstance(causal_model, PreTrainedModel):
        return "it is not a transformers model; merge adapters into it first, or add them to the LaVIT model"
    if getattr(causal_model, "quantization_method", None) is not None:
        return "it is quantized; load it in full precision, and quantize the LaVIT model when that is loaded"
    config = causal_model.config
    if config.get_text_config() is not config:
        return "it is more than a language model; pass only the language model in it"
    if causal_model.base_model is causal_model or causal_model.get_output_embeddings() is None:
        return "it has no base model with an output head next to it; pass a causal language model of transformers"
    built = AutoModelForCausalLM._model_mapping.get(type(config), None)
    if built is not type(causal_model):
        instead = "no causal language model" if built is None else built.__name__
        return f"transformers builds {instead} from its configuration, so the LaVIT model could not be loaded again"
    try:
        width = causal_model.base_model.get_input_embeddings().weight.shape[-1]
    except (AttributeError, NotImplementedError):
        return "its base model does not expose its input embeddings"
    if width != config.hidden_size:
        return (
            f"its embeddings have width {width} and its hidden states {config.hidden_size}; both must have the same "
            "width"
        )
    return None


def _find_fault_in_vocabulary(causal_model: PreTrainedModel, vocab_size: int) -> str | None:
    rows = {"embeddings have": causal_model.get_input_embeddings(), "head has": causal_model.get_output_embeddings()}
    for part, module in rows.items():
        if module.weight.shape[0] != vocab_size:
            return (
                f"its {part} {module.weight.shape[0]} rows, but its configuration has vocab_size {vocab_size}; "
                "resize_token_embeddings makes them equal, as LaVITForCausalLM.from_backbones does for the image ids"
            )
    return None


def _find_fault_in_ties(causal_model: PreTrainedModel) -> str | None:
    head, embeddings = causal_model.get_output_embeddings().weight, causal_model.get_input_embeddings().weight
    configured = getattr(causal_model.config, "tie_word_embeddings", False)
    if configured and head.shape != embeddings.shape:
        return (
            f"its configuration ties its head {tuple(head.shape)} to its embeddings {tuple(embeddings.shape)}, but "
            "their shapes differ; set tie_word_embeddings to False in it"
        )
    if head.is_meta:
        return None
    if configured and head is not embeddings and not torch.equal(head, embeddings):
        return (
            "its configuration ties its head to its embeddings, but the two hold different weights; call tie_weights "
            "on it, or set tie_word_embeddings to False in its configuration"
        )
    if not configured and head is embeddings:
        return "its head is its embeddings, but its configuration does not say so; set tie_word_embeddings to True"
    return None


def _find_fault_in_trials(causal_model: PreTrainedModel) -> str | None:
    with _in_eval_mode(causal_model):
        fault = "it fails on ids from its own vocabulary"
        try:
            with torch.no_grad():
                whole = causal_model(input_ids=_trial_ids(causal_model), use_cache=False).logits
            for fault, holds in _TRIALS.items():
                if not holds(causal_model, whole):
                    return fault
        except Exception as error:
            return f"{fault} ({type(error).__name__}: {error})"
    return None


@contextmanager
def _in_eval_mode(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


# Length of the test sequence, and the number of tokens in the cache before the others are added.
TRIAL_LENGTH, TRIAL_CACHED = 6, 3


def _trial_ids(causal_model: PreTrainedModel) -> torch.LongTensor:
    """Returns ids `(1, TRIAL_LENGTH)` that aren't control tokens, which some models treat differently."""
    config = causal_model.config
    control = [getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos")]
    control = {number for ids in control for number in (ids if isinstance(ids, list) else [ids])}
    ordinary = [number for number in range(config.vocab_size) if number not in control] or [0]
    ordinary = (ordinary[:TRIAL_LENGTH] * TRIAL_LENGTH)[:TRIAL_LENGTH]
    return torch.tensor([ordinary], device=causal_model.get_input_embeddings().weight.device)


def _embeds(causal_model: PreTrainedModel) -> torch.Tensor:
    return causal_model.base_model.get_input_embeddings()(_trial_ids(causal_model))


def _run_parts(
    causal_model: PreTrainedModel, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs
) -> tuple[torch.Tensor, object]:
    """Computes logits and cache from embeddings with base model and head, as in [`LaVITModel`]."""
    base_model = causal_model.base_model
    if attention_mask is not None and takes_positions(base_model):
        kwargs["position_ids"] = count_positions(attention_mask)[:, -inputs_embeds.shape[1] :]
    outputs = base_model(  # some models scale the embeddings in place
        input_ids=None, inputs_embeds=inputs_embeds.clone(), attention_mask=attention_mask, return_dict=True, **kwargs
    )
    logits = causal_model.get_output_embeddings()(outputs.last_hidden_state)
    return apply_after_head(logits, causal_model.config), getattr(outputs, "cache", None)


def _agree(logits: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether two ways of computing the same logits agree, except for rounding."""
    rounding = torch.finfo(expected.dtype).eps
    if expected.dtype == torch.float32 and torch.get_float32_matmul_precision() != "highest":
        rounding = torch.finfo(torch.bfloat16).eps
    difference, scale = (logits.float() - expected.float()).norm(), (expected.float() - expected.float().mean()).norm()
    return bool(difference <= 2 * rounding**0.5 * scale)


@torch.enable_grad()
def _is_causal(causal_model: PreTrainedModel, whole: torch.Tensor) -> bool:
    """Whether earlier logits have no gradients for later tokens, which must hold exactly in every dtype."""
    if torch.is_inference_mode_enabled():
        return _ignores_later_tokens(causal_model)
    inputs_embeds = _embeds(causal_model).detach().requires_grad_()
    logits, _ = _run_parts(causal_model, inputs_embeds, use_cache=False)
    (gradient,) = torch.autograd.grad(logits[:, :TRIAL_CACHED].float().square().sum(), inputs_embeds)
    return not gradient[:, TRIAL_CACHED:].any()


def _ignores_later_tokens(causal_model: PreTrainedModel) -> bool:
    """Tests for a causal mask without gradients, by other tokens at the end."""
    embeds = _embeds(causal_model)
    changed = torch.cat([embeds[:, :TRIAL_CACHED], embeds[:, TRIAL_CACHED:].flip(1)], dim=1)
    (logits, _), (others, _) = (_run_parts(causal_model, part, use_cache=False) for part in (embeds, changed))
    return torch.equal(others[:, :TRIAL_CACHED], logits[:, :TRIAL_CACHED])


@torch.no_grad()
def _takes_embeddings(causal_model: PreTrainedModel, whole: torch.Tensor) -> bool:
    logits, _ = _run_parts(causal_model, _embeds(causal_model), use_cache=False)
    return bool(logits.isfinite().all())


@torch.no_grad()
def _is_sum_of_parts(causal_model: PreTrainedModel, whole: torch.Tensor) -> bool:
    logits, _ = _run_parts(causal_model, _embeds(causal_model), use_cache=False)
    return _agree(logits, whole)


@torch.no_grad()
def _heeds_padding(causal_model: PreTrainedModel, whole: torch.Tensor) -> bool:
    embeds = _embeds(causal_model)
    padded = torch.cat([embeds.flip(1), embeds], dim=1)
    mask = torch.ones(padded.shape[:2], dtype=torch.long, device=padded.device)
    mask[:, :TRIAL_LENGTH] = 0
    logits, _ = _run_parts(causal_model, padded, mask, use_cache=False)
    return _agree(logits[:, TRIAL_LENGTH:], whole)


@torch.no_grad()
def _goes_on_from_cache(causal_model: PreTrainedModel, whole: torch.Tensor) -> bool:
    embeds = _embeds(causal_model)
    padded = torch.cat([embeds[:, -1:], embeds], dim=1)
    mask = torch.ones(padded.shape[:2], dtype=torch.long, device=padded.device)
    mask[:, 0] = 0
    lengths_at_once = [TRIAL_CACHED] + [1] * (TRIAL_LENGTH - TRIAL_CACHED), [TRIAL_CACHED, TRIAL_LENGTH - TRIAL_CACHED]
    return all(
        _agree(_run_in_pieces(causal_model, embeds, lengths), whole)
        and _agree(_run_in_pieces(causal_model, padded, [1 + lengths[0], *lengths[1:]], mask)[:, 1:], whole)
        for lengths in lengths_at_once
    )


def _run_in_pieces(
    causal_model: PreTrainedModel,
    inputs_embeds: torch.Tensor,
    lengths: list[int],
    attention_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Computes the logits of a sequence that is added to a cache in pieces of the given lengths."""
    logits, kwargs, end = [], {}, 0
    for piece in inputs_embeds.split(lengths, dim=1):
        end += piece.shape[1]
        mask = None if attention_mask is None else attention_mask[:, :end]
        piece_logits, cache = _run_parts(causal_model, piece, mask, use_cache=True, **kwargs)
        if cache is None or cache.get_seq_length() != end:
            raise ValueError(f"its cache does not count {end} tokens")
        logits.append(piece_logits)
        kwargs = {"cache": cache}
    return torch.cat(logits, dim=1)


# The tests, by the error message if they fail.
_TRIALS: dict[str, Callable[[PreTrainedModel, torch.Tensor], bool]] = {
    "its base model does not accept embeddings instead of ids": _takes_embeddings,
    "it has no causal mask, so its output for a token depends on later tokens; an encoder architecture needs "
    "is_decoder=True in its configuration": _is_causal,
    "it does more than apply a linear head and the known settings after one ("
    + ", ".join(AFTER_HEAD)
    + ") to the hidden states of its base model, or it reads embeddings differently from ids": _is_sum_of_parts,
    "padding before a prompt changes its output, because it has no attention mask or counts padding in its "
    "positions": _heeds_padding,
    "it keeps no cache of keys and values that can be extended by one token or by many": _goes_on_from_cache,
}


# If a patch changes, its own feature must be among this fraction of the features that change most. In deep encoders,
# other features change as well.
NEAREST_SHARE = 1 / 8


@torch.no_grad()
def check_encoder(encoder: nn.Module) -> None:
    """
    Tests whether a vision encoder returns one feature per patch, in raster order. Encoders without weights aren't run,
    for example while a saved LaVIT is loaded. They were tested when the LaVIT was created.

    Args:
        encoder (`LaVITVisionEncoder`):
            The encoder. It isn't modified.

    Raises:
        ValueError: If the encoder can't be run on just pixels, or returns other features.
    """
    if any(parameter.is_meta for parameter in encoder.parameters()):
        return
    with _in_eval_mode(encoder.model):
        try:
            fault = _find_fault_in_features(encoder)
        except Exception as error:
            fault = f"it does not run on `pixel_values` of the configured size alone ({type(error).__name__}: {error})"
    if fault is not None:
        raise ValueError(f"LaVIT cannot be built on {type(encoder.model).__name__}: {fault}.")


def _find_fault_in_features(encoder: nn.Module) -> str | None:
    config = encoder.config
    grid_size = config.image_size // config.patch_size
    probes = (
        sorted({1, grid_size, config.num_patches - 2, config.num_patches - 1 - grid_size}) if grid_size > 1 else []
    )
    features = encoder(_probe_images(encoder, probes)).last_hidden_state
    expected = (len(probes) + 1, config.num_patches, config.feature_size)
    if features.shape != expected:
        return (
            f"its features have shape {tuple(features.shape[1:])} per image, but its configuration promises "
            f"{expected[1:]}; set image_size, patch_size and feature_size to what it returns"
        )
    if config.encoder_output != "last_hidden_state" or not probes:
        return None
    changes = (features[1:] - features[:1]).float().norm(dim=-1)
    own = changes[range(len(probes)), probes]
    num_as_large = (changes >= own[:, None]).sum(dim=1) - 1
    if 2 * (num_as_large < NEAREST_SHARE * config.num_patches).sum() <= len(probes):
        return (
            "changing a patch changes other features than its own, so its last hidden state does not hold the "
            "patches in raster order, after all other tokens"
        )
    return None


def _probe_images(encoder: nn.Module, probes: list[int]) -> torch.Tensor:
    """Returns an image of noise, and a copy for each patch in `probes` with different noise in that patch."""
    config, parameter = encoder.config, next(encoder.parameters())
    noise = torch.randn(
        2,
        getattr(config.encoder_config, "num_channels", 3),
        config.image_size,
        config.image_size,
        generator=torch.Generator().manual_seed(0),
        device="cpu",  # where the generator is, whatever the default device
    )
    images = noise[:1].repeat(len(probes) + 1, 1, 1, 1)
    size = config.patch_size
    for image, probe in zip(images[1:], probes):
        row, column = (size * place for place in divmod(probe, config.image_size // size))
        image[:, row : row + size, column : column + size] = noise[1, :, row : row + size, column : column + size]
    return images.to(parameter)


__all__ = ["check_encoder", "check_language_model"]
