# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Describes a repo's pixel decoder from its configurations."""

from typing import Any

from ..pixels.picture_sizes import resolve_size
from .repo_files import RepoFiles


def describe_decoder(files: RepoFiles) -> dict[str, dict[str, Any]]:
    """
    Describes the pixel decoder of a repo.

    Args:
        files (`RepoFiles`):
            The repo.

    Returns:
        `dict`: facts about the pixel decoder; its kind is `None` if there is none.
    """
    unet, vae = files.read_json("unet/config.json"), files.read_json("vae/config.json")
    if unet is None or vae is None:
        return {"pixel_decoder": {"kind": None}}
    scheduler = files.read_json("scheduler/scheduler_config.json") or {}
    return {
        "pixel_decoder": {
            "kind": f"{unet['_class_name']} with {vae['_class_name']}",
            "picture_size": unet["sample_size"] * _pixels_per_latent(vae),
            "condition_size": unet["cross_attention_dim"],
            "scheduler": scheduler.get("_class_name"),
            "safety_checker": files.read_json("safety_checker/config.json") is not None,
        }
    }


def check_picture_size(files: RepoFiles, **size: Any) -> None:
    """
    Rejects a size that a repo's pixel decoder cannot generate.

    Args:
        files (`RepoFiles`):
            The repo. Without a pixel decoder, any size is accepted.
        size:
            `height`, `width` and `aspect_ratio`, as for the pipeline.

    Raises:
        ValueError: If the size is not supported. The message suggests the nearest size.
    """
    unet, vae = files.read_json("unet/config.json"), files.read_json("vae/config.json")
    if unet is not None and vae is not None:
        multiple = _pixels_per_latent(vae)
        resolve_size(unet["sample_size"] * multiple, multiple, **size)


def _pixels_per_latent(vae: dict[str, Any]) -> int:
    if "patch_size" in vae:
        return vae["patch_size"]
    return 2 ** (len(vae["block_out_channels"]) - 1)
