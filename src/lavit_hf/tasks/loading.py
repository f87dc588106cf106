# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Loads models for the commands, with errors that say what is missing."""

import gc
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from huggingface_hub.utils import enable_progress_bars
from transformers import BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from ..lavit.configuration_lavit import LaVITConfig
from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.modeling_visual_tokenizer import LaVITVisualTokenizer
from ..lavit.processing_lavit import LaVITProcessor
from ..wiring import register_auto_classes
from .adapters import (
    apply_adapter,
    find_processor,
    read_adapter_config,
)
from .devices import device_refusal
from .dtypes import choose_dtype
from .failures import Failure
from .loading_note import hide_loading
from .options import DType, ModelOptions, Quantization
from .shared_switch import SharedSwitch


P = ParamSpec("P")
T = TypeVar("T")

WIDTH_OF_7B, BATCH_OF_7B = 4096, 8
LARGEST_BATCH = 64  # larger ones are no faster on a CPU

# For a fast start, the command line imports the package without it.
register_auto_classes()


def find_device(name: str) -> torch.device:
    """
    Returns the device to run on.

    Args:
        name (`str`):
            Name of a torch device; `"auto"` is the accelerator if there is one, and the CPU otherwise.

    Raises:
        Failure: If the device cannot be used.
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # the latter if torch was built without CUDA
        raise Failure(device_refusal(name, str(error).splitlines()[0])) from error


def choose_batch_size(repo: str) -> int:
    """
    Chooses how many images to read at once: 8 for a 7B model, and up to 64 for smaller models, whose activations are
    smaller in proportion.
    """
    width = LaVITConfig.from_pretrained(repo).text_config.hidden_size
    return min(max(WIDTH_OF_7B * BATCH_OF_7B // width, BATCH_OF_7B), LARGEST_BATCH)


def load_processor(repo: str, options: ModelOptions) -> LaVITProcessor:
    """Loads the processor, or that of the adapter if it has one."""
    return LaVITProcessor.from_pretrained(find_processor(repo, options.model))


def last_of_loading(load: Callable[P, T]) -> Callable[P, T]:
    """
    Decorator for the last loading function of a command: hides the loading note, and enables garbage collection again
    if it was disabled, for objects created from then on.
    """

    @wraps(load)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        loaded = load(*args, **kwargs)
        hide_loading()
        if not gc.isenabled():
            gc.freeze()
            gc.enable()
        return loaded

    return run


@last_of_loading
def load_language_model(repo: str, options: ModelOptions, dtype: torch.dtype | None = None) -> LaVITForCausalLM:
    """
    Loads the language model, with an adapter if the options name one.

    Args:
        repo (`str`):
            Folder or Hub id of the base model.
        options (`ModelOptions`):
            The model and how to load it.
        dtype (`torch.dtype`, *optional*):
            Dtype of the model. Defaults to that of the options.
    """
    model = LaVITForCausalLM.from_pretrained(
        repo,
        dtype=dtype or find_dtype(repo, options),
        device_map=find_device(options.device),
        quantization_config=_quantization_config(repo, options),
    )
    if read_adapter_config(options.model) is None:
        return model
    return apply_adapter(model, options.model, repo, merge=options.quantize is None)


@last_of_loading
def load_visual_tokenizer(repo: str, options: ModelOptions) -> LaVITVisualTokenizer:
    """Loads only the visual tokenizer."""
    return LaVITVisualTokenizer.from_pretrained(
        repo, dtype=find_dtype(repo, options), device_map=find_device(options.device)
    )


def make_generator(seed: int | None, device: torch.device) -> tuple[torch.Generator, int]:
    """Creates a random generator, and returns it with its seed."""
    seed = secrets.randbelow(2**32) if seed is None else seed
    return torch.Generator(device).manual_seed(seed), seed


def find_dtype(repo: str, options: ModelOptions) -> torch.dtype:
    """Returns the dtype to compute in."""
    if options.dtype is DType.auto:
        return choose_dtype(repo, find_device(options.device))
    return getattr(torch, options.dtype.value)


@contextmanager
def without_library_bars() -> Iterator[None]:
    """Context manager without transformers' progress bars. Those of downloads remain if stderr is a terminal."""
    with _transformers_bars.off():
        yield


def _turn_off_transformers_bars() -> None:
    transformers_logging.disable_progress_bar()
    if sys.stderr.isatty():
        enable_progress_bars()  # huggingface_hub's, which transformers also turned off


_transformers_bars = SharedSwitch(
    transformers_logging.is_progress_bar_enabled, _turn_off_transformers_bars, transformers_logging.enable_progress_bar
)


def _quantization_config(repo: str, options: ModelOptions) -> BitsAndBytesConfig | None:
    if options.quantize is None:
        return None
    if options.quantize is Quantization.eight_bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=find_dtype(repo, options)
    )
