# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Describes a checkpoint from its configurations and the headers of its weights, for `info`."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from transformers import PreTrainedConfig

from ..lavit.configuration_lavit import LaVITConfig
from .adapters import read_adapter_config
from .loading import without_library_bars
from .pixel_decoders import describe_decoder
from .repo_files import open_repo
from .weight_sizes import MEMORY_COLUMNS, PartSize, add_up, measure_parts


def print_description(model: str | None, repo: str, as_json: bool) -> None:
    """
    Prints the description of a checkpoint.

    Args:
        model (`str`, *optional*):
            The requested model, which may be an adapter.
        repo (`str`):
            Its repo from [`find_repo`].
        as_json (`bool`):
            Whether to print JSON.
    """
    with without_library_bars():
        files = open_repo(repo)
        config = LaVITConfig.from_pretrained(repo)
        facts = describe_adapter(model) | describe_model(config) | describe_decoder(files)
        parts = measure_parts(files)
    if as_json:
        print(json.dumps({"model": repo, **facts, "parts": [part.as_dict() for part in parts]}))
        return
    console = Console()
    console.print(_facts_table(repo, facts))
    console.print(_memory_table(parts))


def describe_adapter(model: str | None) -> dict[str, dict[str, Any]]:
    """
    Describes an adapter, in addition to its base model.

    Args:
        model (`str`, *optional*):
            Path or Hub id.

    Returns:
        `dict`: facts about the adapter; empty for a full model.
    """
    config = read_adapter_config(model)
    if config is None:
        return {}
    return {"adapter": {"name": model, "type": config.get("peft_type"), "rank": config.get("r")}}


def describe_model(config: LaVITConfig) -> dict[str, dict[str, Any]]:
    """
    Describes the sizes and the id layout of a model.

    Args:
        config (`LaVITConfig`):
            The model's configuration.

    Returns:
        `dict`: facts by topic.
    """
    visual, text = config.visual_tokenizer_config, config.text_config
    first_code = config.first_code_token_id
    return {
        "visual_tokenizer": {
            "encoder": name_encoder(visual.encoder_config),
            "image_size": visual.image_size,
            "patches": visual.num_patches,
            "feature_size": visual.feature_size,
            "selection": visual.selection,
            "merger_blocks": visual.num_hidden_layers,
            "merger_size": visual.hidden_size,
            "codebook_size": visual.codebook_size,
            "code_size": visual.codebook_dim,
        },
        "language_model": {
            "architecture": text.model_type,
            "layers": text.num_hidden_layers,
            "hidden_size": text.hidden_size,
            "context": getattr(text, "max_position_embeddings", None),
            "dtype": str(config.dtype).removeprefix("torch."),
        },
        "ids": {
            "text": [0, config.text_vocab_size - 1],
            "image_start": config.image_start_token_id,
            "image_end": config.image_end_token_id,
            "codes": [first_code, first_code + visual.codebook_size - 1],
        },
    }


def name_encoder(config: PreTrainedConfig) -> str:
    """Returns the type of a vision encoder, with the name of the model for timm backbones."""
    backbone = getattr(config, "backbone", None)
    return config.model_type if backbone is None else f"{config.model_type} ({backbone})"


def _facts_table(repo: str, facts: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=Text(repo), title_justify="left", show_header=False, box=None)
    for topic, entries in facts.items():
        table.add_row(Text(topic.replace("_", " "), style="bold"))
        for name, value in entries.items():
            table.add_row(f"  {name.replace('_', ' ')}", Text(_show(value)))
    return table


def _show(value: Any) -> str:
    if isinstance(value, bool | None):
        return {None: "none", True: "yes", False: "no"}[value]
    return " to ".join(map(str, value)) if isinstance(value, list) else str(value)


def _memory_table(parts: list[PartSize]) -> Table:
    table = Table("part", title="weights in memory", title_justify="left", box=None)
    for column in ("parameters", *MEMORY_COLUMNS):
        table.add_column(column, justify="right")
    for part in (*parts, add_up(parts)):
        table.add_row(part.name, f"{part.parameters:,}", *(_megabytes(part.bytes[name]) for name in MEMORY_COLUMNS))
    return table


def _megabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
