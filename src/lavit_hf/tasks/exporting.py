# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Exports the language model to its own repo, for software without LaVIT support."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..lavit.atomic_files import atomic_folder
from ..lavit.modeling_lavit import LaVITForCausalLM
from .dtypes import stored_dtype
from .loading import load_language_model, load_processor, without_library_bars
from .options import DType, ModelOptions
from .repos import find_repo


def export_language_model(options: ModelOptions, destination: Path) -> str:
    """
    Saves the language model of a LaVIT model with its tokenizer. It reads and writes image ids as LaVIT does; images
    to read must be passed as embeddings.

    Args:
        options (`ModelOptions`):
            The model and its dtype; `auto` keeps that of the checkpoint.
        destination (`Path`):
            Folder to create.

    Returns:
        `str`: the class of the language model.

    Raises:
        FileExistsError: If the folder already exists.
    """
    repo = find_repo(options.model)
    dtype = stored_dtype(repo) if options.dtype is DType.auto else None
    with without_library_bars(), atomic_folder(destination) as folder:
        language_model = extract_language_model(load_language_model(repo, options, dtype))
        language_model.save_pretrained(folder)
        _plain_tokenizer(load_processor(repo, options).tokenizer).save_pretrained(folder)
    return type(language_model).__name__


def extract_language_model(model: LaVITForCausalLM) -> PreTrainedModel:
    """
    Extracts the causal language model of a LaVIT model, including the image ids.

    Args:
        model (`LaVITForCausalLM`):
            The LaVIT model. Its weights are shared, not copied.

    Returns:
        `PreTrainedModel`: an instance of the `AutoModelForCausalLM` class for the text configuration.
    """
    text_config = model.config.text_config
    with torch.device("meta"):
        language_model = AutoModelForCausalLM.from_config(text_config)
    setattr(language_model, language_model.base_model_prefix, model.language_model)
    language_model.set_output_embeddings(model.lm_head)
    language_model.config.dtype = model.dtype
    language_model.config.architectures = [type(language_model).__name__]
    own = model.generation_config
    # Without the settings for images and others that are specific to LaVIT.
    language_model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id,
        eos_token_id=own.eos_token_id,
        pad_token_id=own.pad_token_id,
        max_new_tokens=own.max_new_tokens,
    )
    return language_model.eval()


def _plain_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Makes LaVIT's tokenizer parse special tokens in texts as other tokenizers do, which vLLM relies on."""
    tokenizer.split_special_tokens = tokenizer.init_kwargs["split_special_tokens"] = False
    tokenizer.chat_template = None  # LaVIT's contains images, which a plain language model does not read
    tokenizer.init_kwargs.pop("processor_class", None)
    tokenizer._set_processor_class(None)
    return tokenizer


__all__ = ["export_language_model", "extract_language_model"]
