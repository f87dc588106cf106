# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Models for the commands, and errors that say what is missing."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import enable_progress_bars
from transformers import BitsAndBytesConfig
from transformers.utils import CONFIG_NAME
from transformers.utils import logging as transformers_logging

from ..bundled import bundled_checkpoint
from ..lavit.atomic_saving import finish_interrupted_save
from ..lavit.configuration_lavit import LaVITConfig
from ..lavit.modeling_lavit import LaVITForCausalLM
from ..lavit.modeling_visual_tokenizer import LaVITVisualTokenizer
from ..lavit.processing_lavit import LaVITProcessor
from ..lavit.untrusted_files import read_json
from ..wiring import register_auto_classes
from .adapters import (
    ADAPTER_CONFIG_NAME,
    apply_adapter,
    find_base,
    find_processor,
    is_adapter_folder,
    read_adapter_config,
)
from .failures import Failure
from .options import DType, ModelOptions, Quantization
from .shared_switch import SharedSwitch


# The command line imports the package without it, to say what it can do at once.
register_auto_classes()


def find_repo(model: str | None) -> str:
    """
    Makes sure that there is such a model, before anything large is read or downloaded.

    Args:
        model (`str`, *optional*):
            Path or Hub id of a model, or of an adapter of one; the bundled checkpoint by default.

    Returns:
        `str`: what `from_pretrained` takes; the model that an adapter was trained on, in place of the adapter.

    Raises:
        Failure: If there is no such model, or the Hub cannot be reached.
    """
    if model is None:
        return bundled_checkpoint()
    if Path(model).exists():
        finish_interrupted_save(model)
        if is_adapter_folder(model):
            return _find_repo_of_adapter(model)
        if not Path(model, CONFIG_NAME).is_file():
            raise Failure(
                f"{model} holds no model ({CONFIG_NAME} is missing); `lavit convert` makes one of an original."
            )
        _check_is_lavit(model, Path(model, CONFIG_NAME))
        return model
    try:
        config_file = hf_hub_download(model, CONFIG_NAME)
    except HFValidationError as error:
        raise Failure(f"there is no folder {model}, and it is no Hub id, which looks like org/name.") from error
    except GatedRepoError as error:
        raise Failure(
            f"{model} is open to those who asked for it: do so on its page, then `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise Failure(
            f"there is no model {model}, neither as a folder nor on the Hub; for a private one, `hf auth login`."
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise Failure(
            f"there is no folder {model}, it is not in the cache, and the Hub cannot be reached: check the network."
        ) from error
    except EntryNotFoundError as error:
        if read_adapter_config(model) is not None:
            return _find_repo_of_adapter(model)
        raise Failure(f"{model} on the Hub holds no model ({CONFIG_NAME} is missing).") from error
    _check_is_lavit(model, Path(config_file))
    return model


def find_device(name: str) -> torch.device:
    """
    The device to run on.

    Args:
        name (`str`):
            As torch names it; `"auto"` is the accelerator if there is one, and the CPU otherwise.

    Raises:
        Failure: If it cannot be used.
    """
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        raise Failure(f"the device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error


def load_processor(repo: str, options: ModelOptions) -> LaVITProcessor:
    """Loads the processor, an adapter's own where one was saved with it."""
    return LaVITProcessor.from_pretrained(find_processor(repo, options.model))


def load_language_model(repo: str, options: ModelOptions) -> LaVITForCausalLM:
    """Loads what reads and writes texts and image tokens, with the adapter in it where the options name one."""
    model = LaVITForCausalLM.from_pretrained(
        repo,
        dtype=options.dtype.value,
        device_map=find_device(options.device),
        quantization_config=_quantization_config(repo, options),
    )
    if read_adapter_config(options.model) is None:
        return model
    return apply_adapter(model, options.model, repo, merge=options.quantize is None)


def load_visual_tokenizer(repo: str, options: ModelOptions, keep_ratio: float | None = None) -> LaVITVisualTokenizer:
    """Loads the visual tokenizer alone, with its own selection rule or one that keeps a share of the patches."""
    return LaVITVisualTokenizer.from_pretrained(
        repo,
        dtype=options.dtype.value,
        device_map=find_device(options.device),
        **selection_settings(keep_ratio),
    )


def selection_settings(keep_ratio: float | None) -> dict[str, Any]:
    """The visual tokenizer's settings that keep a share of the patches; none where its own rule is to decide."""
    return {} if keep_ratio is None else {"selection": "ratio", "keep_ratio": keep_ratio}


def make_generator(seed: int | None, device: torch.device) -> tuple[torch.Generator, int]:
    """A source of all draws, and the seed to repeat them by."""
    seed = secrets.randbelow(2**32) if seed is None else seed
    return torch.Generator(device).manual_seed(seed), seed


def find_dtype(repo: str, options: ModelOptions) -> torch.dtype:
    """What to calculate in."""
    if options.dtype is DType.auto:
        return LaVITConfig.from_pretrained(repo).dtype or torch.float32
    return getattr(torch, options.dtype.value)


@contextmanager
def without_library_bars() -> Iterator[None]:
    """No progress bars of transformers inside. Those of downloads stay where stderr is a terminal."""
    with _transformers_bars.off():
        yield


def _turn_off_transformers_bars() -> None:
    transformers_logging.disable_progress_bar()
    if sys.stderr.isatty():
        enable_progress_bars()  # huggingface_hub's, which transformers turned off as well


_transformers_bars = SharedSwitch(
    transformers_logging.is_progress_bar_enabled, _turn_off_transformers_bars, transformers_logging.enable_progress_bar
)


def _find_repo_of_adapter(adapter: str) -> str:
    base = find_base(adapter, read_adapter_config(adapter))
    try:
        return find_repo(base)
    except Failure as failure:
        raise Failure(
            f"{adapter} is an adapter of a model that cannot be used: {failure} {ADAPTER_CONFIG_NAME} names it."
        ) from failure


def _check_is_lavit(model: str, config_file: Path) -> None:
    model_type = read_json(config_file).get("model_type")
    if model_type != LaVITConfig.model_type:
        raise Failure(f"{model} is no LaVIT: its {CONFIG_NAME} says model_type {model_type!r}.")


def _quantization_config(repo: str, options: ModelOptions) -> BitsAndBytesConfig | None:
    if options.quantize is None:
        return None
    if options.quantize is Quantization.eight_bit:
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=find_dtype(repo, options)
    )
