# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Describes a repo's pixel decoder from its configurations."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..lavit.untrusted_files import describe_error
from ..pixels.picture_sizes import resolve_size
from .failures import Failure
from .repo_files import RepoFiles


UNET_CONFIG, VAE_CONFIG = "unet/config.json", "vae/config.json"
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
NOT_IN_THE_CACHE = "not in the cache"


def has_decoder(files: RepoFiles) -> bool | None:
    """Whether a repo has a pixel decoder; `None` if only the Hub can tell, which cannot be reached."""
    if all(files.read_json(name) is not None for name in (UNET_CONFIG, VAE_CONFIG)):
        return True
    return False if files.is_complete else None


def describe_decoder(files: RepoFiles) -> dict[str, dict[str, Any]]:
    """
    Describes the pixel decoder of a repo.

    Args:
        files (`RepoFiles`):
            The repo.

    Returns:
        `dict`: facts about the pixel decoder; its kind is `None` if there is none.

    Raises:
        Failure: If its configurations are damaged.
    """
    found = has_decoder(files)
    if not found:
        return {"pixel_decoder": {"kind": NOT_IN_THE_CACHE if found is None else None}}
    unet, vae = files.read_json(UNET_CONFIG), files.read_json(VAE_CONFIG)
    scheduler = files.read_json(SCHEDULER_CONFIG) or {}
    with _naming_repo(files):
        return {
            "pixel_decoder": {
                "kind": f"{unet['_class_name']} with {vae['_class_name']}",
                "picture_size": int(unet["sample_size"]) * _pixels_per_latent(vae),
                "condition_size": unet["cross_attention_dim"],
                "scheduler": scheduler.get("_class_name"),
                "safety_checker": files.read_json("safety_checker/config.json") is not None,
            }
        }


def check_painting(files: RepoFiles, painting: dict[str, Any]) -> None:
    """
    Rejects a size or number of steps that a repo's pixel decoder does not support.

    Args:
        files (`RepoFiles`):
            The repo. Without a pixel decoder, everything is accepted.
        painting (`dict`):
            Arguments of the pipeline; `None` means the default.

    Raises:
        ValueError: If the size or the number of steps is not supported. The message suggests another.
        Failure: If the configurations are damaged.
    """
    if not has_decoder(files):
        return
    _check_steps(files, painting.get("num_inference_steps"))
    size = {name: painting.get(name) for name in ("height", "width", "aspect_ratio")}
    if any(value is not None for value in size.values()):
        _check_size(files, size)


def _check_steps(files: RepoFiles, steps: int | None) -> None:
    most = (files.read_json(SCHEDULER_CONFIG) or {}).get("num_train_timesteps")
    if steps is not None and isinstance(most, int) and steps > most:
        raise ValueError(f"{steps} steps are more than the {most} of the scheduler in {files.repo}. Use fewer.")


def _check_size(files: RepoFiles, size: dict[str, Any]) -> None:
    with _naming_repo(files):
        multiple = _pixels_per_latent(files.read_json(VAE_CONFIG))
        own_size = int(files.read_json(UNET_CONFIG)["sample_size"]) * multiple
    resolve_size(own_size, multiple, **size)


@contextmanager
def _naming_repo(files: RepoFiles) -> Iterator[None]:
    """Names the repo in errors about fields that its configurations lack, or of other types."""
    try:
        yield
    except (KeyError, TypeError) as error:
        raise Failure(
            f"the configurations of the pixel decoder in {files.repo} are damaged ({describe_error(error)}). Download "
            "it again."
        ) from error


def _pixels_per_latent(vae: dict[str, Any]) -> int:
    if "patch_size" in vae:
        return vae["patch_size"]
    return 2 ** (len(vae["block_out_channels"]) - 1)
