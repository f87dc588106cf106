# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Converts images of any kind to upright 8-bit RGB, the common input format of both image processors."""

import base64
import binascii
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from transformers.image_utils import ChannelDimension, infer_channel_dimension_format

from .image_download import download_image
from .image_metadata import read_without_metadata
from .input_checks import check_has_values, check_is_dense, check_nesting


MAX_STREAM_BYTES = 512 * 2**20  # for an image that is read into memory, as from a pipe
MAX_SIDE = 2**16  # maximum side length in pixels before a resize; JPEGs have fewer

# Metadata in which Pillow looks for the orientation of an image.
_METADATA_WITH_ORIENTATION = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")

# Operations that rotate an image upright, by EXIF orientation.
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
    Reads an image and rotates it upright according to its EXIF orientation. Damaged metadata of PNG and JPEG files is
    ignored.

    Args:
        source (`str`, `os.PathLike` or `bytes`):
            File path, `http(s)` URL, base64 string (plain or as a `data:image/...` URI) or the bytes of a file.
        max_pixels (`int`, *optional*):
            Maximum number of pixels. Defaults to `PIL.Image.MAX_IMAGE_PIXELS`.
        formats (`Sequence[str]`, *optional*):
            Pillow's names of the allowed formats. By default, all formats are allowed.

    Returns:
        `PIL.Image.Image`: The decoded image in mode `"RGB"`.

    Raises:
        `ValueError`: If the image doesn't exist, is empty, truncated, damaged or in an unknown format, or has more
        than
            `max_pixels` pixels; for a URL, also if the download exceeds the limits in `image_download.py`.
    """
    stream, name = _open_stream(source)
    with stream:
        with _pillow_errors(name):
            is_empty = stream.seek(0, io.SEEK_END) == 0
        if is_empty:
            raise ValueError(f"{name} is empty (0 bytes): was it written or downloaded completely?")
        try:
            return _decode(stream, name, max_pixels, formats)
        except ValueError:
            essential = read_without_metadata(stream, MAX_STREAM_BYTES)
            if essential is None:
                raise
            with suppress(ValueError):
                return _decode(io.BytesIO(essential), name, max_pixels, formats)
            raise


def to_rgb_image(image: Image.Image, name: str | None = None, max_pixels: int | None = None) -> Image.Image:
    """
    Rotates an image upright and converts it from any mode to RGB. As in the original, transparency is dropped instead
    of blended, so the colors of transparent pixels are kept. 16-bit grayscale (`"I;16"`, and `"I"`, which Pillow uses
    for it) is scaled down instead of clipped; `"F"` is treated like floating-point arrays in [`to_rgb_tensor`].

    Args:
        image (`PIL.Image.Image`):
            The image. It isn't modified.
        name (`str`, *optional*):
            Name of the image in error messages. Defaults to its file name, or its mode and size.
        max_pixels (`int`, *optional*):
            Maximum number of pixels. Defaults to `PIL.Image.MAX_IMAGE_PIXELS`.

    Returns:
        `PIL.Image.Image`: The image in mode `"RGB"`.

    Raises:
        `ValueError`: If the image has no pixels or more than `max_pixels`, can't be decoded or can't be converted to
            RGB.
    """
    name = name or getattr(image, "filename", "") or f"the {image.mode} image of size {image.size}"
    if 0 in image.size:
        raise ValueError(f"{name} has no pixels (width x height: {image.width} x {image.height}).")
    with _pillow_errors(name):
        _check_pixel_limit(image.size, max_pixels)
        image.load()
        _check_pixel_limit(image.size, max_pixels)  # an icon can contain a larger image than it declares
        image = _turn_upright(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _reduce_depth(image, name)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # same colors, but without the warning of a direct conversion to RGB
    try:
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise ValueError(f"{name} cannot be converted from mode {image.mode} to RGB. Convert it first.") from error


def to_rgb_tensor(
    image: Image.Image | np.ndarray | torch.Tensor, input_data_format: str | ChannelDimension | None = None
) -> torch.Tensor:
    """
    Converts an image to 8-bit RGB. The range of integers is 0..255, that of `uint16` is 0..65535, and `bool` is black
    and white. Floating-point values are in 0..1 if none is above 1, and in 0..255 if one is 2 or more. If the maximum
    is in between, the scale is ambiguous and the image is refused. A fourth channel is treated as alpha and dropped.

    Args:
        image (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor`):
            The image. Arrays have shape `(height, width)`, `(num_channels, height, width)` or
            `(height, width, num_channels)` with 1, 3 or 4 channels.
        input_data_format (`str` or `ChannelDimension`, *optional*):
            Position of the channels of an array. By default, it is inferred from the shape.

    Returns:
        `torch.Tensor`: The image, of shape `(3, height, width)` and dtype `torch.uint8`, on the same device.

    Raises:
        `TypeError`: If it isn't an image.
        `ValueError`: If the image can't be decoded, or the array doesn't have the shape, dtype or values of an image.
    """
    if isinstance(image, Image.Image):
        return torch.from_numpy(np.array(to_rgb_image(image))).permute(2, 0, 1)
    _check_array_size(image)
    image = _channels_first(_to_tensor(image), input_data_format)
    return _to_uint8(image[:3]).expand(3, -1, -1)


def reduce_long_sides(image: Image.Image) -> Image.Image:
    """
    Reduces sides longer than `MAX_SIDE` by averaging blocks of pixels, before an image is resized. Otherwise, the
    memory for a resize would grow with the sides, no matter how few pixels the image has.

    Args:
        image (`PIL.Image.Image`):
            The image.

    Returns:
        `PIL.Image.Image`: The reduced image, or the image itself if no side is that long.
    """
    factors = tuple(-(-side // MAX_SIDE) for side in image.size)
    return image if factors == (1, 1) else image.reduce(factors)


def reduce_long_sides_of_pixels(images: torch.Tensor) -> torch.Tensor:
    """
    Applies [`reduce_long_sides`] to images in the format of the image processors.

    Args:
        images (`torch.Tensor` of shape `(..., 3, height, width)`):
            Images of dtype `torch.uint8`.

    Returns:
        `torch.Tensor` of shape `(..., 3, reduced_height, reduced_width)` and dtype `torch.uint8`, on the same device.
    """
    if max(images.shape[-2:]) <= MAX_SIDE:
        return images
    rows = images.reshape(-1, *images.shape[-3:]).movedim(1, -1)
    reduced = [np.array(reduce_long_sides(Image.fromarray(row.numpy(force=True)))) for row in rows]
    reduced = torch.from_numpy(np.stack(reduced)).movedim(-1, 1).to(images.device)
    return reduced.reshape(*images.shape[:-3], *reduced.shape[1:])


def flatten_images(images: Any) -> Iterator[Any]:
    """
    Yields the images of a nested list one by one. Arrays with a leading batch axis are also split.

    Raises:
        `ValueError`: If lists are nested too deeply, or contain themselves.
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
    """Prepends the index of an image to its error messages if there are several images."""
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


def _decode(stream: BinaryIO, name: str, max_pixels: int | None, formats: Sequence[str] | None) -> Image.Image:
    if formats is not None:
        Image.init()
        formats = [known for known in formats if known in Image.OPEN]  # Pillow can be built without some of them
    stream.seek(0)
    with _pillow_errors(name):
        image = Image.open(stream, formats=formats)
    return to_rgb_image(image, name, max_pixels)


def _open_stream(source: str | os.PathLike | bytes) -> tuple[BinaryIO, str]:
    """Opens the source, and returns it with its name for error messages."""
    if isinstance(source, bytes):
        return io.BytesIO(source), f"the image of {len(source)} bytes"
    text = os.fspath(source)
    name = repr(text if len(text) <= 200 else f"{text[:60]}...")  # base64 strings can be megabytes long
    if text.startswith(("http://", "https://")):
        return io.BytesIO(download_image(text, name)), name
    if os.path.exists(text):
        return _open_file(text, name), name
    return io.BytesIO(_decode_base64(text, name)), f"{name} (no such file; read as base64)"


def _open_file(path: str, name: str) -> BinaryIO:
    """Opens a file. Pipes, as from `<(command)` in a shell, can't seek, so they are read into memory."""
    try:
        if os.path.isfile(path):
            return open(path, "rb")
        with open(path, "rb") as stream:
            content = stream.read(MAX_STREAM_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{name} cannot be opened as an image file: {error.strerror}.") from error
    if len(content) > MAX_STREAM_BYTES:
        raise ValueError(f"{name} has more than {MAX_STREAM_BYTES >> 20} MB and may have no end.")
    return io.BytesIO(content)


def _decode_base64(text: str, name: str) -> bytes:
    payload = text.partition(",")[2] if text.startswith("data:image/") else text
    try:
        return base64.b64decode("".join(payload.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(
            f"{name} is not an image: there is no such file, and it is neither a URL nor base64."
        ) from error


def _check_pixel_limit(size: tuple[int, int], max_pixels: int | None = None):
    """Refuses images above the pixel limit. Pillow only warns and still decodes them up to twice its limit."""
    limit = Image.MAX_IMAGE_PIXELS if max_pixels is None else max_pixels
    if limit is not None and size[0] * size[1] > limit:
        raise Image.DecompressionBombError(f"{size[0]} x {size[1]} pixels are more than {limit}")


@contextmanager
def _pillow_errors(name: str) -> Iterator[None]:
    """Turns any error that Pillow raises on a bad image into a single `ValueError` that names the image."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(
            f"{name} is too large to decode safely ({error}). Scale it down first, or raise "
            "`PIL.Image.MAX_IMAGE_PIXELS` if you trust its source."
        ) from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not an image in a format that Pillow can read.") from error
    except Exception as error:  # Pillow's readers can raise almost anything on damaged files
        raise ValueError(f"{name} cannot be decoded because the image is truncated or damaged: {error}") from error


def _turn_upright(image: Image.Image) -> Image.Image:
    """Returns an upright copy. Unlike `ImageOps.exif_transpose`, it doesn't fail on an unreadable orientation."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # the pixels can still be used
        orientation = None
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    upright = image.copy() if method is None else image.transpose(method)
    for name in _METADATA_WITH_ORIENTATION:
        upright.info.pop(name, None)  # otherwise, it would be rotated again
    return upright


def _reduce_depth(image: Image.Image, name: str) -> Image.Image:
    """Converts modes that Pillow would clip at 255 to 8-bit grayscale."""
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
    """Refuses arrays above the pixel limit before they are copied. A view of a single value can have any size."""
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
        # torch requires native byte order, positive strides and writable memory
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
