# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What commands are asked for, and refuse if it cannot be: before torch is imported, which takes seconds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .devices import check_device
from .images import Skipped, find_images
from .loading_note import show_loading
from .options import ModelOptions
from .repos import find_repo
from .saving import check_free, name_outputs, number_outputs


@dataclass(frozen=True)
class PictureRequest:
    """
    Images that something is to be done with.

    Args:
        sources (`list[str]`):
            The images, as [`find_images`] gives them.
        skipped (`Skipped`):
            Counts those that cannot be read.
        repo (`str`):
            The model's repo.
        options (`ModelOptions`):
            How to load it.
        outputs (`dict[str, Path]`):
            The file to make of each image, where files are made.
    """

    sources: list[str]
    skipped: Skipped
    repo: str
    options: ModelOptions
    outputs: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class PaintingRequest:
    """
    Images that are to be painted.

    Args:
        sources (`list[str]`):
            The images of the prompt.
        outputs (`list[Path]`):
            The files to make.
        repo (`str`):
            The model's repo.
        options (`ModelOptions`):
            How to load it.
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
) -> PictureRequest:
    """
    Finds images and the model that is to read them.

    Args:
        images (`Sequence[str]`):
            The images as the command line names them.
        options (`ModelOptions`):
            Which model.
        folder (`Path`, *optional*):
            Where the files go that are made of the images.
        force (`bool`, *optional*, defaults to `False`):
            Whether these may overwrite others.
        folder_option (`str`, *optional*, defaults to `"--output"`):
            The option that names the folder, for messages.

    Returns:
        [`PictureRequest`].

    Raises:
        Failure: If there is no such image, model or device, or a file is in the way.
    """
    skipped = Skipped()
    sources = find_images(images, skipped)
    outputs = {} if folder is None else name_outputs(sources, folder)
    check_free(outputs.values(), force, folder_option)
    repo = find_model(options)
    show_loading(repo)
    return PictureRequest(sources, skipped, repo, options, outputs)


def request_painting(
    images: Sequence[str], options: ModelOptions, output: Path, force: bool, painting: dict[str, Any]
) -> PaintingRequest:
    """
    Finds what an image is to be painted of, and by which model.

    Args:
        images (`Sequence[str]`):
            The images of the prompt, as the command line names them. None may be missing.
        options (`ModelOptions`):
            Which model.
        output (`Path`):
            The file to make, or where there are several images what theirs are called after.
        force (`bool`):
            Whether files may be overwritten.
        painting (`dict`):
            What the pipeline will be told.

    Returns:
        [`PaintingRequest`].

    Raises:
        Failure: If there is no such image, model or device, or a file is in the way.
        ValueError: If the model cannot paint that size.
    """
    outputs = number_outputs(output, painting["num_images_per_prompt"])
    check_free(outputs, force)
    sources = find_images(images, Skipped(allowed=False)) if images else []
    repo = find_model(options)
    size = {name: painting[name] for name in ("height", "width", "aspect_ratio")}
    if any(value is not None for value in size.values()):
        from .pixel_decoders import check_picture_size
        from .repo_files import open_repo

        check_picture_size(open_repo(repo), **size)
    show_loading(repo)
    return PaintingRequest(sources, outputs, repo, options)


def find_model(options: ModelOptions) -> str:
    """The repo of a model, which is there, and the device may be there as well; otherwise raises a [`Failure`]."""
    repo = find_repo(options.model)
    check_device(options.device)
    return repo
