# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Checks the arguments of commands before torch is imported, which takes seconds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .devices import check_device
from .images import Skipped, find_images
from .loading_note import show_loading
from .options import ModelOptions
from .repos import find_repo
from .saving import check_free, check_keeps_images, name_outputs, number_outputs


# Arguments of the pipeline that depend on the pixel decoder.
CHECKED_SETTINGS = ("height", "width", "aspect_ratio", "num_inference_steps")


@dataclass(frozen=True)
class PictureRequest:
    """
    Images to process.

    Args:
        sources (`list[str]`):
            Images from [`find_images`].
        skipped (`Skipped`):
            Counts images that cannot be read.
        repo (`str`):
            The model's repo.
        options (`ModelOptions`):
            Options for loading the model.
        outputs (`dict[str, Path]`):
            Output file of each image, if there are output files.
    """

    sources: list[str]
    skipped: Skipped
    repo: str
    options: ModelOptions
    outputs: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class PaintingRequest:
    """
    Images to generate.

    Args:
        sources (`list[str]`):
            Images of the prompt.
        outputs (`list[Path]`):
            Output files.
        repo (`str`):
            The model's repo.
        options (`ModelOptions`):
            Options for loading the model.
    """

    sources: list[str]
    outputs: list[Path]
    repo: str
    options: ModelOptions


def request_pictures(
    images: Sequence[str],
    options: ModelOptions,
    folder: Path | None = None,
    force: bool = False,
    folder_option: str = "--output",
    painting: dict[str, Any] | None = None,
) -> PictureRequest:
    """
    Finds images and the model to read them.

    Args:
        images (`Sequence[str]`):
            Images as given on the command line.
        options (`ModelOptions`):
            The model.
        folder (`Path`, *optional*):
            Output folder.
        force (`bool`, *optional*, defaults to `False`):
            Whether output files may overwrite others.
        folder_option (`str`, *optional*, defaults to `"--output"`):
            Name of the option for the folder, for messages.
        painting (`dict`, *optional*):
            Arguments of the pipeline, if the images are reconstructed.

    Returns:
        [`PictureRequest`].

    Raises:
        Failure: If an image, model or device does not exist, or an output file already exists.
        ValueError: If the model does not support the arguments of the pipeline.
    """
    skipped = Skipped()
    sources = find_images(images, skipped)
    outputs = {} if folder is None else name_outputs(sources, folder)
    check_free(outputs.values(), force, folder_option)
    check_keeps_images(sources, outputs.values(), folder_option)
    repo = find_model(options)
    _check_painting(repo, painting or {})
    show_loading(repo)
    return PictureRequest(sources, skipped, repo, options, outputs)


def request_painting(
    images: Sequence[str], options: ModelOptions, output: Path, force: bool, painting: dict[str, Any]
) -> PaintingRequest:
    """
    Finds the images of a prompt and the model to generate images with.

    Args:
        images (`Sequence[str]`):
            Images of the prompt as given on the command line. All must exist.
        options (`ModelOptions`):
            The model.
        output (`Path`):
            Output file. For several images, numbers are added to its name.
        force (`bool`):
            Whether files may be overwritten.
        painting (`dict`):
            Arguments of the pipeline.

    Returns:
        [`PaintingRequest`].

    Raises:
        Failure: If an image, model or device does not exist, or an output file already exists.
        ValueError: If the model does not support the size or the number of steps.
    """
    outputs = number_outputs(output, painting["num_images_per_prompt"])
    check_free(outputs, force)
    # One by one, as an image may be in a prompt several times.
    sources = [source for image in images for source in find_images([image], Skipped(allowed=False))]
    repo = find_model(options)
    _check_painting(repo, painting)
    show_loading(repo)
    return PaintingRequest(sources, outputs, repo, options)


def find_model(options: ModelOptions) -> str:
    """Returns the repo of a model. Raises a [`Failure`] if it does not exist or the device cannot be used."""
    repo = find_repo(options.model)
    check_device(options.device)
    return repo


def _check_painting(repo: str, painting: dict[str, Any]) -> None:
    if any(painting.get(name) is not None for name in CHECKED_SETTINGS):
        from .pixel_decoders import check_painting
        from .repo_files import open_repo

        check_painting(open_repo(repo), painting)
