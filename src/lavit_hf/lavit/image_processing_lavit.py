# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LaVIT's image processor on torchvision."""

import torch
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import ChannelDimension, ImageInput, SizeDict

from .image_loading import reduce_long_sides_of_pixels, to_rgb_tensor
from .image_processing_pil_lavit import LaVITImageProcessorMixin
from .remote_code import ships_code


PART_SIZE = 2**22  # numbers in double precision at once


@ships_code
class LaVITImageProcessor(LaVITImageProcessorMixin, TorchvisionBackend):
    r"""
    Image processor of LaVIT on torchvision: images of one size are processed together, on any device.

    Takes the inputs and arguments of [`LaVITImageProcessorPil`] and gives nearly its values: it resizes as Pillow
    does, along the width and then along the height, each rounded to 8 bits. It is 1 grey level (0.015 in
    `pixel_values`) apart at no more than 0.05% of the values, on the reference images and on photographs.

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
        Brings one image to the form that the backend works on.

        Args:
            image (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor`):
                The image.
            input_data_format (`str` or `ChannelDimension`, *optional*):
                Where the channels of an array are. Inferred from its shape by default.
            device (`str` or `torch.device`, *optional*):
                Where to process the image. Defaults to where it is.

        Returns:
            `torch.Tensor`: The image of shape `(3, height, width)` in `torch.uint8`.

        Raises:
            `ValueError`: If the image is not a valid one.
        """
        return to_rgb_tensor(image, input_data_format).to(device)

    def resize(self, image: torch.Tensor, size: SizeDict, **kwargs) -> torch.Tensor:
        """
        Resizes images as Pillow does, whose fixed-point filter double precision is needed to follow. It is done part
        by part, and sides beyond 65,536 pixels are reduced first, so that memory is bounded whatever the aspect ratio.

        Args:
            image (`torch.Tensor` of shape `(..., 3, height, width)`):
                Images in `torch.uint8`.
            size (`SizeDict`):
                The wanted height and width.

        Returns:
            `torch.Tensor` of shape `(..., 3, size.height, size.width)` in `torch.uint8`.
        """
        image = reduce_long_sides_of_pixels(image)
        image = self._resize_side(image, -1, size.width, **kwargs)
        return self._resize_side(image, -2, size.height, **kwargs)

    def _resize_side(self, image: torch.Tensor, dim: int, length: int, **kwargs) -> torch.Tensor:
        """Resizes the images' width or height, for some rows or columns at once: these do not depend on each other."""
        other = -3 - dim
        dtype = torch.float32 if image.device.type == "mps" else torch.float64  # mps has no double precision
        numbers = image.numel() // image.shape[dim] // image.shape[other] * max(image.shape[dim], length)
        parts = []
        for part in image.split(max(1, PART_SIZE // numbers), dim=other):
            sides = {dim: length, other: part.shape[other]}
            part = super().resize(part.to(dtype), SizeDict(height=sides[-2], width=sides[-1]), **kwargs)
            parts.append(part.add_(0.5).floor_().clamp_(0, 255).to(torch.uint8))
        return torch.cat(parts, dim=other)


__all__ = ["LaVITImageProcessor"]
