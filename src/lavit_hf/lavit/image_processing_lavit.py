# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LaVIT's torchvision image processor."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import (
    ChannelDimension,
    ImageInput,
    PILImageResampling,
    SizeDict,
    torch_pil_interpolation_mapping,
)

from .image_loading import reduce_long_sides_of_pixels, to_rgb_tensor
from .image_processing_pil_lavit import LaVITImageProcessorMixin
from .remote_code import ships_code


PILLOW_DEVICES = ("cpu",)
PART_SIZE = 2**22  # values resized at once in double precision


@ships_code
class LaVITImageProcessor(LaVITImageProcessorMixin, TorchvisionBackend):
    r"""
    LaVIT's image processor based on torchvision. Processes images of the same size together, on any device.

    Takes the same inputs and arguments as [`LaVITImageProcessorPil`] and returns the same values on a CPU, where it
    also resizes with Pillow. On other devices it resizes like Pillow: first the width, then the height, rounding to 8
    bits each time. On the reference images and on photos, at most 0.05% of the values differ, by 1 gray level (0.015
    in `pixel_values`).

    Example:

    ```python
    >>> from lavit_hf import LaVITImageProcessor

    >>> image_processor = LaVITImageProcessor(size=224)
    >>> pixel_values = image_processor("examples/images/cat.jpg", return_tensors="pt").pixel_values
    >>> pixel_values.shape
    torch.Size([1, 3, 224, 224])
    ```
    """

    def process_image(
        self,
        image: ImageInput,
        input_data_format: str | ChannelDimension | None = None,
        device: "str | torch.device | None" = None,
        **kwargs,
    ) -> torch.Tensor:
        """
        Converts an image to the format of the backend.

        Args:
            image (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor`):
                The image.
            input_data_format (`str` or `ChannelDimension`, *optional*):
                Position of the channels of an array. By default, it is inferred from the shape.
            device (`str` or `torch.device`, *optional*):
                The device to process the image on. Defaults to the image's device.

        Returns:
            `torch.Tensor`: The image, of shape `(3, height, width)` and dtype `torch.uint8`.

        Raises:
            `ValueError`: If the image is invalid.
        """
        return to_rgb_tensor(image, input_data_format).to(device)

    def resize(
        self, image: torch.Tensor, size: SizeDict, resample: PILImageResampling | Any = None, **kwargs
    ) -> torch.Tensor:
        """
        Resizes images with Pillow on a CPU, and like Pillow on other devices, which requires double precision to match
        Pillow's fixed-point filter. To limit memory for any aspect ratio, images are resized in parts there, and sides
        longer than 65,536 pixels are reduced first.

        Args:
            image (`torch.Tensor` of shape `(..., 3, height, width)`):
                Images of dtype `torch.uint8`.
            size (`SizeDict`):
                The target height and width.
            resample (`PILImageResampling` or `torchvision.transforms.InterpolationMode`, *optional*):
                Filter for resizing. Defaults to bilinear, as in transformers.

        Returns:
            `torch.Tensor` of shape `(..., 3, size.height, size.width)` and dtype `torch.uint8`.
        """
        if image.shape[-2:] == (size.height, size.width):
            return image
        image = reduce_long_sides_of_pixels(image)
        if image.device.type in PILLOW_DEVICES:
            return _resize_with_pillow(image, size, resample)
        image = self._resize_side(image, -1, size.width, resample=resample, **kwargs)
        return self._resize_side(image, -2, size.height, resample=resample, **kwargs)

    def _resize_side(self, image: torch.Tensor, dim: int, length: int, **kwargs) -> torch.Tensor:
        """Resizes width or height, a few rows or columns at a time, which are independent of each other."""
        if image.shape[dim] == length:
            return image
        other = -3 - dim
        dtype = torch.float32 if image.device.type == "mps" else torch.float64  # mps has no double precision
        numbers = image.numel() // image.shape[dim] // image.shape[other] * max(image.shape[dim], length)
        parts = []
        for part in image.split(max(1, PART_SIZE // numbers), dim=other):
            sides = {dim: length, other: part.shape[other]}
            part = super().resize(part.to(dtype), SizeDict(height=sides[-2], width=sides[-1]), **kwargs)
            parts.append(part.add_(0.5).floor_().clamp_(0, 255).to(torch.uint8))
        return torch.cat(parts, dim=other)


def _resize_with_pillow(
    images: torch.Tensor, size: SizeDict, resample: PILImageResampling | Any = None
) -> torch.Tensor:
    resample = torch_pil_interpolation_mapping.get(resample, resample)
    if resample is None:
        resample = PILImageResampling.BILINEAR
    channels_last = images.reshape(-1, *images.shape[-3:]).permute(0, 2, 3, 1).numpy()
    resized = [Image.fromarray(image).resize((size.width, size.height), resample) for image in channels_last]
    pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)
    return pixels.reshape(*images.shape[:-2], *pixels.shape[-2:])


__all__ = ["LaVITImageProcessor"]
