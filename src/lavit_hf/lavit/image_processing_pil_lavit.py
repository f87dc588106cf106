# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LaVIT's Pillow image processor, and the base class that it shares with the torchvision one."""

import math
import os
from typing import Any

import numpy as np
import torch
from transformers.image_processing_backends import PilBackend
from transformers.image_processing_base import BatchFeature
from transformers.image_utils import (
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
    ChannelDimension,
    ImageInput,
    PILImageResampling,
    SizeDict,
)

from .atomic_saving import LoadsWholeRepos
from .image_loading import (
    flatten_images,
    is_floating_point,
    load_image,
    naming_image,
    reduce_long_sides_of_pixels,
    to_rgb_tensor,
)
from .input_checks import argument_errors, as_list, check_nesting
from .remote_code import ships_code
from .untrusted_files import naming_checkpoint, shorten


class LaVITImageProcessorMixin(LoadsWholeRepos):
    """LaVIT's preprocessing, independent of the backend: defaults, inputs and their checks."""

    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"height": 224, "width": 224}
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As in transformers, but problems with the files raise a `ValueError` or an `OSError` that names them."""
        with naming_checkpoint(pretrained_model_name_or_path, cls.__name__):
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    def fetch_images(self, images: Any) -> Any:
        """
        Loads all paths, URLs, base64 strings and `bytes` in an image or a nested list of images.

        Args:
            images (`ImageInput`, `str`, `os.PathLike`, `bytes`, `dict` or a nested list of these):
                The images. A dict with a `"path"` or `"bytes"` is an image of the `datasets` library before decoding.

        Returns:
            `ImageInput`: The same structure, with PIL images instead of sources.

        Raises:
            `ValueError`: If an image can't be loaded, or a list contains itself.
        """
        if isinstance(images, list | tuple):
            check_nesting(images, "The list of images")
            return [self.fetch_images(image) for image in images]
        images = _source_of(images)
        return load_image(images) if isinstance(images, str | bytes | os.PathLike) else images

    def preprocess(self, images: ImageInput, *args, **kwargs) -> BatchFeature:
        with argument_errors():
            return super().preprocess(as_list(images), *args, **kwargs)

    def _prepare_images_structure(self, images: ImageInput, expected_ndims: int = 3) -> list:
        # The base class would refuse grayscale arrays (2 axes), and print entire images in its error message.
        images = list(flatten_images(images))
        if not images:
            raise ValueError("There are no images to preprocess: the list is empty.")
        for number, image in enumerate(images):
            with naming_image(number, len(images)):
                images[number] = self.fetch_images(image)
        return images

    def _prepare_image_like_inputs(self, images: ImageInput, *args, expected_ndims: int = 3, **kwargs) -> list:
        # As in the base class, but errors name the image.
        images = self._prepare_images_structure(images, expected_ndims)
        for number, image in enumerate(images):
            with naming_image(number, len(images)):
                images[number] = self.process_image(image, *args, **kwargs)
        return images

    def _preprocess_image_like_inputs(self, images: ImageInput, *args, do_rescale: bool, **kwargs) -> BatchFeature:
        # `do_rescale=False` means that float images are already in 0..1. Here, as in the original, every image is
        # converted to 8 bits before the resize, so these must be rescaled anyway.
        images = self._prepare_images_structure(images)
        do_rescale = do_rescale or all(is_floating_point(image) for image in images)
        return super()._preprocess_image_like_inputs(images, *args, do_rescale=do_rescale, **kwargs)

    def _standardize_kwargs(self, size: Any = None, **kwargs) -> dict:
        if isinstance(size, list | tuple) and len(size) != 2:
            raise ValueError(f"`size` must be an int or have height and width, got {shorten(repr(size), 200)}.")
        return super()._standardize_kwargs(size=size, **kwargs)

    def _validate_preprocess_kwargs(
        self,
        size: SizeDict | None = None,
        do_resize: bool | None = None,
        do_convert_rgb: bool | None = None,
        do_normalize: bool | None = None,
        **kwargs,
    ):
        super()._validate_preprocess_kwargs(size=size, do_resize=do_resize, do_normalize=do_normalize, **kwargs)
        for name in ("image_mean", "image_std") if do_normalize else ():
            _check_statistics(name, kwargs[name])
        if do_resize and not (size.height and size.width):
            raise ValueError(f"`size` must be an int or have 'height' and 'width', got {dict(size)}.")
        if do_convert_rgb is False:
            raise ValueError("`do_convert_rgb=False` is not supported: LaVIT's encoder only reads RGB.")


def _check_statistics(name: str, value: float | list[float]):
    values = value if isinstance(value, list | tuple) else [value]
    if len(values) not in (1, 3) or not all(map(math.isfinite, values)) or (name == "image_std" and 0 in values):
        raise ValueError(
            f"`{name}` must be a number, or one for each of the 3 channels; got {shorten(repr(value), 200)}."
        )


@ships_code
class LaVITImageProcessorPil(LaVITImageProcessorMixin, PilBackend):
    r"""
    LaVIT's image processor based on Pillow. It doesn't need torchvision and is identical to the original's
    preprocessing.

    Images are rotated upright (EXIF), converted to 8-bit RGB without transparency, resized to `size` with Pillow's
    antialiased bicubic filter (ignoring the aspect ratio), scaled by 1/255, and normalized with CLIP's mean and
    standard deviation, which is what LaVIT's EVA-CLIP encoder (arXiv 2309.04669) was trained on. Inputs can be PIL
    images, NumPy arrays, torch tensors, paths, URLs, base64 strings, `bytes` and nested lists of these. See
    [`to_rgb_tensor`] for the value ranges of arrays.

    Args:
        size (`int` or `dict[str, int]`, *optional*, defaults to `{"height": 224, "width": 224}`):
            Output size in pixels.
        resample (`PILImageResampling`, *optional*, defaults to `PILImageResampling.BICUBIC`):
            Filter for resizing.
        image_mean (`list[float]`, *optional*, defaults to `OPENAI_CLIP_MEAN`):
            Mean of each channel.
        image_std (`list[float]`, *optional*, defaults to `OPENAI_CLIP_STD`):
            Standard deviation of each channel.
        do_resize (`bool`, *optional*, defaults to `True`):
            Whether to resize.
        do_rescale (`bool`, *optional*, defaults to `True`):
            Whether to scale by `rescale_factor`. Floating-point images in 0..1 are recognized with either value.
        rescale_factor (`float`, *optional*, defaults to `1 / 255`):
            Scaling factor.
        do_normalize (`bool`, *optional*, defaults to `True`):
            Whether to normalize.

    Example:

    ```python
    >>> from lavit_hf import LaVITImageProcessorPil

    >>> image_processor = LaVITImageProcessorPil(size=224)
    >>> pixel_values = image_processor("examples/images/cat.jpg", return_tensors="pt").pixel_values
    >>> pixel_values.shape
    torch.Size([1, 3, 224, 224])
    ```
    """

    def process_image(
        self, image: ImageInput, input_data_format: str | ChannelDimension | None = None, **kwargs
    ) -> np.ndarray:
        """
        Converts an image to the format of the backend.

        Args:
            image (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor`):
                The image.
            input_data_format (`str` or `ChannelDimension`, *optional*):
                Position of the channels of an array. By default, it is inferred from the shape.

        Returns:
            `np.ndarray`: The image, of shape `(3, height, width)` and dtype `uint8`.

        Raises:
            `ValueError`: If the image is invalid.
        """
        return to_rgb_tensor(image, input_data_format).numpy(force=True)

    def resize(self, image: np.ndarray, size: SizeDict, **kwargs) -> np.ndarray:
        """
        Resizes an image. To limit memory for any aspect ratio, sides longer than 65,536 pixels are reduced first.

        Args:
            image (`np.ndarray` of shape `(3, height, width)`):
                An image of dtype `uint8`.
            size (`SizeDict`):
                The target height and width.

        Returns:
            `np.ndarray` of shape `(3, size.height, size.width)` and dtype `uint8`.
        """
        return super().resize(reduce_long_sides_of_pixels(torch.from_numpy(image)).numpy(), size, **kwargs)


def _source_of(image: Any) -> Any:
    """Returns the path or content of an image that the `datasets` library hasn't decoded, and all else as is."""
    if not isinstance(image, dict) or not image.keys() <= {"path", "bytes"}:
        return image
    return image.get("path") if image.get("bytes") is None else image["bytes"]


__all__ = ["LaVITImageProcessorPil"]
