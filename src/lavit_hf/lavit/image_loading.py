# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Images of every kind brought to upright 8-bit RGB, the one form from which both image processors start."""

import base64
import binascii
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from transformers.image_utils import ChannelDimension, infer_channel_dimension_format

from .image_download import download_image
from .input_checks import check_has_values, check_is_dense, check_nesting


MAX_SIDE = 2**16  # pixels of a side that a resize starts from; a JPEG has fewer

# Where Pillow finds the orientation of an image.
_METADATA_WITH_ORIENTATION = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")

# What turns an image upright, by its EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(
    source: str | os.PathLike | bytes, max_pixels: int | None = None, formats: Sequence[str] | None = None
) -> Image.Image:
    """
    Reads an image and turns it upright by its EXIF orientation.

    Args:
        source (`str`, `os.PathLike` or `bytes`):
            Path of a file, `http(s)` URL, base64 text (bare or as a `data:image/...` URI) or the bytes of a file.
        max_pixels (`int`, *optional*):
            Most pixels that are decoded. Defaults to `PIL.Image.MAX_IMAGE_PIXELS`.
        formats (`Sequence[str]`, *optional*):
            Pillow's names of the formats that are read. All by default.

    Returns:
        `PIL.Image.Image`: The decoded image in mode `"RGB"`.

    Raises:
        `ValueError`: If there is no such image, or it is empty, truncated, damaged, in an unknown format, or has more
            pixels than `max_pixels`; a URL also if it takes longer or gives more than `image_download.py` allows.
    """
    stream, name = _open_stream(source)
    with stream:
        if stream.seek(0, io.SEEK_END) == 0:
            raise ValueError(f"{name} is empty (0 bytes): was it written or downloaded completely?")
        stream.seek(0)
        if formats is not None:
            Image.init()
            formats = [known for known in formats if known in Image.OPEN]  # a Pillow may be built without some
        with _pillow_errors(name):
            image = Image.open(stream, formats=formats)
        return to_rgb_image(image, name, max_pixels)


def to_rgb_image(image: Image.Image, name: str | None = None, max_pixels: int | None = None) -> Image.Image:
    """
    Turns an image upright and converts it to RGB from any mode. Transparency is dropped, not blended: the colors
    under it are kept, as in the original. 16-bit grey (`"I;16"`, and `"I"`, which Pillow uses for it) is scaled down,
    not clipped; `"F"` follows the rule for floating-point arrays of [`to_rgb_tensor`].

    Args:
        image (`PIL.Image.Image`):
            The image, which is left as it is.
        name (`str`, *optional*):
            What errors call the image. Defaults to its file name or its mode and size.
        max_pixels (`int`, *optional*):
            Most pixels that are decoded. Defaults to `PIL.Image.MAX_IMAGE_PIXELS`.

    Returns:
        `PIL.Image.Image`: The image in mode `"RGB"`.

    Raises:
        `ValueError`: If the image has no pixels or more than `max_pixels`, cannot be decoded or has no conversion to
            RGB.
    """
    name = name or getattr(image, "filename", "") or f"the {image.mode} image of size {image.size}"
    if 0 in image.size:
        raise ValueError(f"{name} has no pixels (width x height: {image.width} x {image.height}).")
    with _pillow_errors(name):
        _check_pixel_limit(image.size, max_pixels)
        image.load()
        _check_pixel_limit(image.size, max_pixels)  # an icon may hold a larger image than it says
        image = _turn_upright(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _reduce_depth(image, name)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colors; straight to RGB, Pillow warns
    try:
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise ValueError(f"{name} cannot be converted from mode {image.mode} to RGB. Convert it first.") from error


def to_rgb_tensor(
    image: Image.Image | np.ndarray | torch.Tensor, input_data_format: str | ChannelDimension | None = None
) -> torch.Tensor:
    """
    Brings one image to 8-bit RGB. Integers are read as 0..255, `uint16` as 0..65535, `bool` as black and white.
    Floating-point values are read as 0..1 if none is above 1, as 0..255 if one is 2 or more; in between, the scale
    is anybody's guess and the image is refused. A fourth channel is taken for alpha and dropped.

    Args:
        image (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor`):
            The image, an array of shape `(height, width)`, `(num_channels, height, width)` or
            `(height, width, num_channels)` with 1, 3 or 4 channels.
        input_data_format (`str` or `ChannelDimension`, *optional*):
            Where the channels of an array are. Inferred from its shape by default.

    Returns:
        `torch.Tensor`: The image of shape `(3, height, width)` in `torch.uint8`, on its device.

    Raises:
        `TypeError`: If it is no image.
        `ValueError`: If the image cannot be decoded, or the array does not have the shape, dtype or values of one.
    """
    if isinstance(image, Image.Image):
        return torch.from_numpy(np.array(to_rgb_image(image))).permute(2, 0, 1)
    _check_array_size(image)
    image = _channels_first(_to_tensor(image), input_data_format)
    return _to_uint8(image[:3]).expand(3, -1, -1)


def reduce_long_sides(image: Image.Image) -> Image.Image:
    """
    Brings sides beyond `MAX_SIDE` below it, by the mean of a whole number of pixels, before an image is resized: the
    tables and intermediate results of a resize grow with the sides, however few pixels there are.

    Args:
        image (`PIL.Image.Image`):
            The image.

    Returns:
        `PIL.Image.Image`: The image itself, where no side is that long.
    """
    factors = tuple(-(-side // MAX_SIDE) for side in image.size)
    return image if factors == (1, 1) else image.reduce(factors)


def reduce_long_sides_of_pixels(images: torch.Tensor) -> torch.Tensor:
    """
    Does the same to images as the image processors hold them.

    Args:
        images (`torch.Tensor` of shape `(..., 3, height, width)`):
            Images in `torch.uint8`.

    Returns:
        `torch.Tensor` of shape `(..., 3, reduced_height, reduced_width)` in `torch.uint8`, on the device of `images`.
    """
    if max(images.shape[-2:]) <= MAX_SIDE:
        return images
    rows = images.reshape(-1, *images.shape[-3:]).movedim(1, -1)
    reduced = [np.array(reduce_long_sides(Image.fromarray(row.numpy(force=True)))) for row in rows]
    reduced = torch.from_numpy(np.stack(reduced)).movedim(-1, 1).to(images.device)
    return reduced.reshape(*images.shape[:-3], *reduced.shape[1:])


def flatten_images(images: Any) -> Iterator[Any]:
    """
    Yields the images of a nested list one by one; an array with a batch axis in front is taken apart too.

    Raises:
        `ValueError`: If lists are nested too deep, or hold themselves.
    """
    check_nesting(images, "The list of images")
    yield from _flatten(images)


def _flatten(images: Any) -> Iterator[Any]:
    if isinstance(images, list | tuple):
        for image in images:
            yield from _flatten(image)
    elif getattr(images, "ndim", None) == 4:
        if isinstance(images, torch.Tensor):
            check_has_values(images, "The batch of images")
        yield from images
    else:
        yield images


@contextmanager
def naming_image(number: int, total: int) -> Iterator[None]:
    """Puts the number of an image, from 0 on, in front of what is wrong with it, where there are several."""
    try:
        yield
    except (ValueError, TypeError) as error:
        if total == 1:
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"Image {number} of {total}: {error}") from error


def is_floating_point(image: Image.Image | np.ndarray | torch.Tensor) -> bool:
    """Whether the pixels of an image are floating-point numbers."""
    if isinstance(image, Image.Image):
        return image.mode == "F"
    if isinstance(image, np.ndarray):
        return image.dtype.kind == "f"
    return isinstance(image, torch.Tensor) and image.is_floating_point()


def _open_stream(source: str | os.PathLike | bytes) -> tuple[BinaryIO, str]:
    """Opens the source and says what errors should call it."""
    if isinstance(source, bytes):
        return io.BytesIO(source), f"the image of {len(source)} bytes"
    text = os.fspath(source)
    name = repr(text if len(text) <= 200 else f"{text[:60]}...")  # base64 text runs to megabytes
    if text.startswith(("http://", "https://")):
        return io.BytesIO(download_image(text, name)), name
    if os.path.exists(text):
        return _open_file(text, name), name
    return io.BytesIO(_decode_base64(text, name)), f"{name} (no such file; read as base64)"


def _open_file(path: str, name: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as error:
        raise ValueError(f"{name} cannot be opened as an image file: {error.strerror}.") from error


def _decode_base64(text: str, name: str) -> bytes:
    payload = text.partition(",")[2] if text.startswith("data:image/") else text
    try:
        return base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(
            f"{name} is not an image: there is no such file, and it is neither a URL nor base64."
        ) from error


def _check_pixel_limit(size: tuple[int, int], max_pixels: int | None = None):
    """Refuses what Pillow only warns of: from its limit to twice its limit it decodes the image all the same."""
    limit = Image.MAX_IMAGE_PIXELS if max_pixels is None else max_pixels
    if limit is not None and size[0] * size[1] > limit:
        raise Image.DecompressionBombError(f"{size[0]} x {size[1]} pixels are more than {limit}")


@contextmanager
def _pillow_errors(name: str) -> Iterator[None]:
    """Turns whatever Pillow raises on a bad image into one `ValueError` that names it."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{name} is too large to decode safely ({error}). Scale it down first, or raise "
            "`PIL.Image.MAX_IMAGE_PIXELS` if you trust its source."
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not an image in a format that Pillow can read.") from error
    except Exception as error:  # its readers raise almost anything on a damaged file
        raise ValueError(f"{name} cannot be decoded because the image is truncated or damaged: {error}") from error


def _turn_upright(image: Image.Image) -> Image.Image:
    """A copy turned by its EXIF orientation. Not by `ImageOps.exif_transpose`, which fails where it cannot read it."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the pixels are good all the same
        orientation = None
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    upright = image.copy() if method is None else image.transpose(method)
    for name in _METADATA_WITH_ORIENTATION:
        upright.info.pop(name, None)  # or it would be turned again
    return upright


def _reduce_depth(image: Image.Image, name: str) -> Image.Image:
    """8-bit grey from modes that Pillow's own conversion would clip at 255."""
    pixels = np.array(image)
    if image.mode == "I":
        if pixels.min() < 0 or pixels.max() > np.iinfo(np.uint16).max:
            raise ValueError(f"{name} has 32-bit pixels outside [0, 65535]. Scale them to 8 or 16 bits first.")
        pixels = pixels.astype(np.uint16)
    try:
        return Image.fromarray(_to_uint8(_to_tensor(pixels)).numpy())
    except ValueError as error:
        raise ValueError(f"{name} has pixel values that no image has. {error}") from error


def _check_array_size(image: Any):
    """Refuses what has more pixels than a file may have, before it is copied: a view of one number may be as large."""
    if isinstance(image, torch.Tensor):
        check_is_dense(image, "The image")
    shape = tuple(getattr(image, "shape", ()))
    sides = sorted(shape)[-2:]
    if len(sides) == 2:
        with _pillow_errors(f"The image array of shape {shape}"):
            _check_pixel_limit(sides)


def _to_tensor(image: np.ndarray | torch.Tensor) -> torch.Tensor:
    if isinstance(image, torch.Tensor):
        check_has_values(image, "The image")
        return image.detach()
    if not isinstance(image, np.ndarray):
        raise TypeError(
            "An image must be a PIL image, a NumPy array, a torch tensor, a path, a URL or bytes; "
            f"got {type(image).__name__}."
        )
    try:
        # torch takes native byte order, positive strides and writable memory only
        return torch.from_numpy(np.require(image, image.dtype.newbyteorder("="), ["C", "W"]))
    except TypeError as error:
        raise ValueError(f"An array of dtype {image.dtype} is not an image. Cast it to uint8 or float32.") from error


def _channels_first(image: torch.Tensor, input_data_format: str | ChannelDimension | None) -> torch.Tensor:
    shape = tuple(image.shape)
    if image.ndim == 2:
        image, input_data_format = image[None], ChannelDimension.FIRST
    if image.ndim != 3:
        raise ValueError(f"An image array must have 2 or 3 axes, or 4 as a batch of images; got shape {shape}.")
    if 0 in shape:
        raise ValueError(f"The image array of shape {shape} has no pixels.")
    data_format = ChannelDimension(input_data_format or _infer_data_format(image))
    if data_format == ChannelDimension.LAST:
        image = image.permute(2, 0, 1)
    if image.shape[0] not in (1, 3, 4):
        raise ValueError(
            f"An image has 1, 3 or 4 channels, but the array of shape {shape}, read as {data_format.value}, "
            f"has {image.shape[0]}."
        )
    return image


def _infer_data_format(image: torch.Tensor) -> ChannelDimension:
    try:
        return infer_channel_dimension_format(image, num_channels=(1, 3, 4))
    except ValueError as error:
        raise ValueError(
            f"An image array of shape {tuple(image.shape)} has no axis of 1, 3 or 4 channels, first or last."
        ) from error


def _to_uint8(image: torch.Tensor) -> torch.Tensor:
    if image.dtype == torch.uint8:
        return image
    if image.dtype == torch.bool:
        return image.to(torch.uint8) * 255
    if image.dtype == torch.uint16:
        return ((image.to(torch.int32) + 128) // 257).to(torch.uint8)  # 65535 = 255 * 257, rounded
    if image.is_floating_point():
        return _float_to_uint8(image.float())
    if image.is_complex():
        raise ValueError(f"An array of dtype {image.dtype} is not an image. Cast it to uint8 or float32.")
    low, high = (bound.item() for bound in image.to(torch.int64).aminmax())
    if low < 0 or high > 255:
        raise ValueError(
            f"The integer image has values from {low} to {high}. They must be in [0, 255], or the dtype must be "
            "uint16."
        )
    return image.to(torch.uint8)


def _float_to_uint8(image: torch.Tensor) -> torch.Tensor:
    if not image.isfinite().all():
        raise ValueError("The floating-point image has NaN or infinite values. Fix them at their source.")
    low, high = (bound.item() for bound in image.aminmax())
    if low < 0 or high > 255 or 1 < high < 2:
        raise ValueError(
            f"The floating-point image has values from {low:g} to {high:g}, so its scale is neither [0, 1] nor [0, "
            "255]. Clip it to one of them, and undo any normalization, which the image processor applies itself."
        )
    return (image * 255 if high <= 1 else image).round().to(torch.uint8)
