# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Both image processors: the reference values, every kind of input, every kind of bad input."""

import base64
import gzip
import io
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor
from transformers.image_utils import pil_torch_interpolation_mapping
from transformers.utils import is_torchvision_available

from lavit_hf import LaVITImageProcessor, LaVITImageProcessorPil
from lavit_hf.lavit import image_download, image_processing_lavit
from lavit_hf.lavit.image_loading import load_image, to_rgb_tensor


SIZE = 32
LEVEL = 1 / 255 / min(LaVITImageProcessorPil.image_std)  # one grey level in `pixel_values`

needs_torchvision = pytest.mark.skipif(not is_torchvision_available(), reason="needs torchvision")
BACKENDS = [
    pytest.param(LaVITImageProcessorPil, id="pil"),
    pytest.param(LaVITImageProcessor, id="torchvision", marks=needs_torchvision),
]


@pytest.fixture
def like_pillow(monkeypatch):
    """Resizes as on an accelerator, without Pillow."""
    monkeypatch.setattr(image_processing_lavit, "PILLOW_DEVICES", ())


@pytest.fixture(params=BACKENDS)
def image_processor(request):
    return request.param(size=SIZE)


@pytest.fixture
def rgb() -> np.ndarray:
    """An image of 20 x 30 pixels with no symmetry, smooth so that JPEG keeps it."""
    y, x = np.mgrid[:20, :30]
    return np.stack([8 * x, 12 * y, 4 * x + 5 * y], axis=-1).astype(np.uint8)


def pixel_values(image_processor, images, **kwargs) -> torch.Tensor:
    return image_processor(images, return_tensors="pt", **kwargs).pixel_values


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


# Reference values


@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_the_reference(golden, backend):
    image_processor = backend(size=golden.facts["dims"]["image_size"])
    actual = pixel_values(image_processor, golden.image_paths)
    torch.testing.assert_close(actual, golden.tensors["pixel_values"], rtol=0, atol=1e-6)


@needs_torchvision
def test_without_pillow_within_the_stated_bound_of_the_reference(golden, like_pillow):
    image_processor = LaVITImageProcessor(size=golden.facts["dims"]["image_size"])
    error = (pixel_values(image_processor, golden.image_paths) - golden.tensors["pixel_values"]).abs()
    assert error.max() < 1.01 * LEVEL
    assert (error > LEVEL / 2).float().mean() < 0.0005


@pytest.fixture
def photographs() -> list[Path]:
    paths = sorted((Path(__file__).parents[2] / "examples" / "images").glob("*.jpg"))
    assert len(paths) >= 2
    return paths


@needs_torchvision
def test_without_pillow_within_the_stated_bound_on_photographs(photographs, like_pillow):
    expected = pixel_values(LaVITImageProcessorPil(), photographs)
    error = (pixel_values(LaVITImageProcessor(), photographs) - expected).abs()
    assert expected.shape[1:] == (3, 224, 224)
    assert error.max() < 1.01 * LEVEL
    assert (error > LEVEL / 2).float().mean() < 0.0005


@needs_torchvision
@pytest.mark.parametrize("resample", [*Image.Resampling])
@pytest.mark.parametrize("size", [32, {"height": 300, "width": 20}])
def test_backends_are_equal_on_a_cpu(photographs, resample, size):
    """Also for batches, tensors and torchvision's own names of filters."""
    options = {"size": size, "resample": resample}
    expected = pixel_values(LaVITImageProcessorPil(**options), photographs)
    tensors = [to_rgb_tensor(load_image(path)) for path in photographs]
    for resample_name in (resample, pil_torch_interpolation_mapping[resample]):
        image_processor = LaVITImageProcessor(size=size, resample=resample_name)
        for images in (photographs, tensors, [*tensors, *tensors]):
            actual = pixel_values(image_processor, images)
            torch.testing.assert_close(actual[: len(photographs)], expected, rtol=0, atol=1e-6)


@needs_torchvision
@pytest.mark.parametrize("devices", [(), ("cpu",)])
def test_what_has_the_size_is_unchanged(rgb, monkeypatch, devices):
    monkeypatch.setattr(image_processing_lavit, "PILLOW_DEVICES", devices)
    image_processor = LaVITImageProcessor(size={"height": 20, "width": 30}, do_normalize=False)
    torch.testing.assert_close(pixel_values(image_processor, rgb)[0], torch.from_numpy(rgb).permute(2, 0, 1) / 255)
    before = rgb.copy()
    pixel_values(LaVITImageProcessor(size={"height": 20, "width": 30}), torch.from_numpy(rgb))
    assert (rgb == before).all()


def test_aspect_ratio_is_not_kept(image_processor):
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, 20:] = 255
    red = pixel_values(image_processor, image)[0, 0]
    assert (red[:, : SIZE // 2 - 4] == red[0, 0]).all() and (red[:, SIZE // 2 + 4 :] == red[-1, -1]).all()
    assert red[0, 0] < 0 < red[-1, -1]


def test_options_can_be_changed_for_one_call(image_processor, rgb):
    plain = pixel_values(image_processor, rgb, do_resize=False, do_normalize=False)
    torch.testing.assert_close(plain[0], torch.from_numpy(rgb).permute(2, 0, 1) / 255)
    assert pixel_values(image_processor, rgb, size={"height": 8, "width": 8}).shape == (1, 3, 8, 8)


# What is accepted


def test_every_container_of_an_image_gives_the_same(image_processor, rgb, tmp_path):
    image = Image.fromarray(rgb)
    path = tmp_path / "image.png"
    image.save(path)
    text = base64.b64encode(path.read_bytes()).decode()
    float_image = rgb.astype(np.float32)
    sources = {
        "pil": image,
        "path": path,
        "str": str(path),
        "bytes": path.read_bytes(),
        "base64": text,
        "base64 lines": base64.encodebytes(path.read_bytes()).decode(),
        "data uri": f"data:image/png;base64,{text}",
        "channels last": rgb,
        "channels first": rgb.transpose(2, 0, 1),
        "negative strides": rgb[..., ::-1].copy()[..., ::-1],
        "read-only": np.frombuffer(rgb.tobytes(), np.uint8).reshape(rgb.shape),
        "int64": rgb.astype(np.int64),
        "uint16": rgb.astype(np.uint16) * 257,
        "big-endian": (rgb.astype(np.uint16) * 257).astype(">u2"),
        "float 0..255": float_image,
        "float 0..1": float_image / 255,
        "float64 0..1": rgb / 255,
        "RGBA array": np.dstack([rgb, rgb[..., 0]]),
        "tensor": torch.from_numpy(rgb).permute(2, 0, 1),
        "tensor channels last": torch.from_numpy(rgb),
        "tensor with gradient": (torch.from_numpy(rgb) / 255).requires_grad_(),
        "bfloat16": torch.from_numpy(rgb).bfloat16(),
    }
    expected = pixel_values(image_processor, image)
    for name, source in sources.items():
        assert torch.equal(pixel_values(image_processor, source), expected), name


def test_lists_nested_lists_and_batches_are_flattened_in_order(image_processor, rgb):
    images = [rgb, 255 - rgb, rgb // 2]
    expected = torch.cat([pixel_values(image_processor, image) for image in images])
    nested = [[Image.fromarray(images[0])], [], (images[1], torch.from_numpy(images[2]))]
    for batch in (images, nested, np.stack(images), torch.from_numpy(np.stack(images)), [np.stack(images)]):
        assert torch.equal(pixel_values(image_processor, batch), expected)


def test_images_of_several_sizes_make_one_batch(image_processor, rgb):
    images = [rgb, rgb[:7, :9], rgb]
    batch = pixel_values(image_processor, images)
    assert torch.equal(batch[1:2], pixel_values(image_processor, images[1])) and torch.equal(batch[0], batch[2])


@pytest.mark.parametrize("to_array", [np.asarray, lambda grey: grey[None], lambda grey: grey[..., None]])
def test_grey_arrays_become_rgb(image_processor, rgb, to_array):
    grey = rgb[..., 0]
    expected = pixel_values(image_processor, np.stack([grey] * 3, axis=-1))
    assert torch.equal(pixel_values(image_processor, to_array(grey)), expected)


def test_boolean_arrays_are_black_and_white(image_processor, rgb):
    mask = rgb[..., 0] > 100
    assert torch.equal(pixel_values(image_processor, mask), pixel_values(image_processor, mask.astype(np.uint8) * 255))


def test_channel_axis_can_be_named_where_the_shape_is_ambiguous(image_processor):
    image = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    last = pixel_values(image_processor, image, input_data_format="channels_last")
    assert torch.equal(last, pixel_values(image_processor, Image.fromarray(image)))
    first = pixel_values(image_processor, image, input_data_format="channels_first")
    assert torch.equal(first, pixel_values(image_processor, Image.fromarray(image.transpose(1, 2, 0).copy())))


def test_float_images_in_0_to_1_are_right_with_and_without_rescale(image_processor, rgb):
    expected = pixel_values(image_processor, rgb)
    for image in (rgb / 255, torch.from_numpy(rgb) / 255):
        assert torch.equal(pixel_values(image_processor, image, do_rescale=False), expected)
    unscaled = pixel_values(image_processor, rgb, do_rescale=False, do_normalize=False, do_resize=False)
    assert unscaled.max() == rgb.max()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LA", "PA", "RGBa"])
def test_pil_modes_follow_pillow(image_processor, rgb, mode):
    image = Image.fromarray(rgb)
    via = {"PA": "P", "RGBa": "RGBA"}.get(mode)
    image = (image.convert(via) if via else image).convert(mode)
    expected = pixel_values(image_processor, np.array(image.convert("RGB")))
    assert torch.equal(pixel_values(image_processor, image), expected)


def test_transparency_is_dropped_and_not_blended(image_processor, rgb):
    alpha = Image.fromarray(rgb[..., 0])
    image = Image.fromarray(rgb)
    image.putalpha(alpha)
    assert torch.equal(pixel_values(image_processor, image), pixel_values(image_processor, rgb))

    grey = Image.merge("LA", (alpha, alpha))
    assert torch.equal(pixel_values(image_processor, grey), pixel_values(image_processor, rgb[..., 0]))


@pytest.mark.parametrize("transparency", [0, bytes([0, 128])], ids=["index", "table"])
@pytest.mark.filterwarnings("error")
def test_transparency_of_palettes_is_dropped_without_a_warning(image_processor, rgb, transparency):
    palette = Image.fromarray(rgb).quantize(16)
    expected = pixel_values(image_processor, palette.convert("RGB"))
    data = encoded(palette, transparency=transparency)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "P" and "transparency" in image.info
        assert torch.equal(pixel_values(image_processor, image), expected)
    assert torch.equal(pixel_values(image_processor, data), expected)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F", "F 0..1"])
def test_deep_grey_is_scaled_and_not_clipped(image_processor, rgb, mode):
    grey = rgb[..., 0]
    deep = {
        "I;16": grey.astype(np.uint16) * 257,
        "I;16B": (grey.astype(np.uint16) * 257).astype(">u2"),
        "I": grey.astype(np.int32) * 257,
        "F": grey.astype(np.float32),
        "F 0..1": grey.astype(np.float32) / 255,
    }[mode]
    image = Image.fromarray(deep)
    assert image.mode == mode.split()[0]
    assert torch.equal(pixel_values(image_processor, image), pixel_values(image_processor, grey))


def test_16_bit_files_are_scaled_and_not_clipped(image_processor, rgb):
    grey = rgb[..., 0]
    data = encoded(Image.fromarray(grey.astype(np.uint16) * 257))
    assert torch.equal(pixel_values(image_processor, data), pixel_values(image_processor, grey))


def test_16_bit_values_are_rounded():
    values = np.array([[0, 128, 129, 385, 386, 65535]], np.uint16)
    assert to_rgb_tensor(values)[0].tolist() == [[0, 0, 1, 1, 2, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_pil_images_paths_and_bytes(image_processor, rgb, tmp_path, orientation):
    # The stored pixels that a viewer turns into `rgb`, by the definition of the eight orientations.
    stored = {
        1: rgb,
        2: rgb[:, ::-1],
        3: rgb[::-1, ::-1],
        4: rgb[::-1],
        5: rgb.transpose(1, 0, 2),
        6: np.rot90(rgb),
        7: np.rot90(rgb.transpose(1, 0, 2), 2),
        8: np.rot90(rgb, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    expected = pixel_values(image_processor, rgb)
    with Image.open(path) as image:
        assert torch.equal(pixel_values(image_processor, image), expected)
        assert image.getexif()[0x0112] == orientation  # the caller's image is left alone
    assert torch.equal(pixel_values(image_processor, path), expected)
    assert torch.equal(pixel_values(image_processor, path.read_bytes()), expected)


def test_fetched_images_are_not_turned_twice(image_processor, rgb):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(rgb), exif=exif)
    fetched = image_processor.fetch_images([[data]])[0][0]
    assert (fetched.mode, fetched.size) == ("RGB", (20, 30))
    assert torch.equal(pixel_values(image_processor, fetched), pixel_values(image_processor, data))


def test_inputs_are_left_alone(image_processor, rgb):
    for image in (rgb.copy(), rgb.astype(np.float32), torch.from_numpy(rgb.copy())):
        before = image.copy() if isinstance(image, np.ndarray) else image.clone()
        pixel_values(image_processor, image, do_resize=False)
        assert (image == before).all()


@pytest.fixture
def server(tmp_path):
    """A web server on `tmp_path`, on the loopback interface."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_urls_are_downloaded(image_processor, rgb, server, tmp_path):
    Image.fromarray(rgb).save(tmp_path / "image.png")
    assert torch.equal(pixel_values(image_processor, f"{server}/image.png"), pixel_values(image_processor, rgb))
    with pytest.raises(ValueError, match=r"missing\.png' cannot be downloaded.*404"):
        image_processor(f"{server}/missing.png")


# Bad inputs: one clear error each


def test_damaged_files_are_named(image_processor, rgb, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), "JPEG")
    files = {
        "empty.png": (b"", r"is empty \(0 bytes\)"),
        "text.jpg": (b"this is no image at all", "not an image in a format"),
        "header.png": (encoded(Image.fromarray(rgb))[:12], "not an image in a format|cannot be decoded"),
        "truncated.jpg": (whole[: len(whole) // 2], "truncated or damaged"),
        "truncated.png": (encoded(Image.fromarray(noise))[:2000], "truncated or damaged"),
    }
    for name, (data, message) in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}.*({message})"):
            image_processor([rgb, tmp_path / name])
        with pytest.raises(ValueError, match=f"{len(data)} bytes.*({message})"):
            image_processor(data)


def test_a_lazily_opened_truncated_image_is_named(image_processor, tmp_path):
    path = tmp_path / "half.png"
    path.write_bytes(encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)))[:2000])
    with Image.open(path) as image, pytest.raises(ValueError, match=r"half\.png cannot be decoded"):
        image_processor(image)


def test_missing_files_and_folders_are_named(image_processor, tmp_path):
    with pytest.raises(ValueError, match=r"'no/such/photo\.jpg' is not an image: there is no such file"):
        image_processor("no/such/photo.jpg")
    with pytest.raises(ValueError, match=r"'photos12' \(no such file; read as base64\) is not an image"):
        image_processor("photos12")
    with pytest.raises(ValueError, match=r"(?i)cannot be opened.*directory"):
        image_processor(tmp_path)
    with pytest.raises(ValueError, match="no such file") as error:
        image_processor("?" * 100_000)
    assert len(str(error.value)) < 300


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_are_read_like_files(rgb, tmp_path):
    """As a shell passes the output of a command, as in `lavit caption <(convert ...)`."""
    os.mkfifo(tmp_path / "pipe")
    data = encoded(Image.fromarray(rgb))
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    writer.start()
    assert np.array_equal(load_image(tmp_path / "pipe"), rgb)
    writer.join()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux has a /proc")
def test_files_that_are_none(monkeypatch):
    monkeypatch.setattr("lavit_hf.lavit.image_loading.MAX_STREAM_BYTES", 2**20)
    with pytest.raises(ValueError, match="'/dev/zero' has more than 1 MB and may have no end"):
        load_image("/dev/zero")
    with pytest.raises(ValueError, match="'/dev/null' is empty"):
        load_image("/dev/null")
    with pytest.raises(ValueError, match="'/proc/self/mem' cannot be decoded"):
        load_image("/proc/self/mem")


def test_hosts_that_are_too_long():
    url = f"http://{'a' * 70}.example/cat.png"
    with pytest.raises(ValueError, match=rf"'{url}' cannot be downloaded"):
        load_image(url)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [500, 100], ids=["Pillow warns", "Pillow raises"])
def test_decompression_bombs_are_refused(image_processor, rgb, tmp_path, monkeypatch, limit):
    Image.fromarray(rgb).save(tmp_path / "bomb.png")  # 600 pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=r"bomb\.png' is too large.*MAX_IMAGE_PIXELS"):
        image_processor(tmp_path / "bomb.png")
    assert limit == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    assert pixel_values(image_processor, tmp_path / "bomb.png").shape == (1, 3, SIZE, SIZE)


@pytest.mark.filterwarnings("error")
def test_decompression_bombs_are_refused_where_warnings_are_errors(rgb, monkeypatch):
    data = encoded(Image.fromarray(rgb))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ValueError, match="too large"):
        load_image(data)


# Small outside, large inside

MEASURE = """
import io, sys
from PIL import Image
import lavit_hf

def peak():
    return int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])

image_processor = getattr(lavit_hf, sys.argv[1])(size=224)
image_processor(Image.new("RGB", (500, 400)), return_tensors="pt")
for size in zip(*[map(int, sys.argv[2:])] * 2):
    file = io.BytesIO()
    Image.new("1", size, 1).save(file, "PNG")
    open("/proc/self/clear_refs", "w").write("5")  # the peak is now what is used
    before = peak()
    pixel_values = image_processor(file.getvalue(), return_tensors="pt").pixel_values
    assert pixel_values.shape == (1, 3, 224, 224) and pixel_values.min() > 1.9  # white
    print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's count of memory")
@pytest.mark.parametrize("backend", BACKENDS)
def test_memory_is_bounded_whatever_the_aspect_ratio(backend):
    """A strip of a million pixels took 5.9 GB. In a process of its own, which uses nothing else meanwhile."""
    sizes = [(1, 1_000_000), (3_000_000, 1), (1, 4_000_000), (3500, 3500)]
    command = [sys.executable, "-c", MEASURE, backend.__name__, *(str(side) for size in sizes for side in size)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    kilobytes = [int(line) for line in result.stdout.split()]
    assert len(kilobytes) == len(sizes) and max(kilobytes) < 400_000


@needs_torchvision
def test_parts_make_the_whole(monkeypatch, like_pillow):
    """Images that are resized in many parts are those that are resized in one."""
    pictures = [np.random.default_rng(0).integers(0, 256, (170, 130, 3), dtype=np.uint8)] * 2
    for size in (32, 224):
        whole = pixel_values(LaVITImageProcessor(size=size), pictures)
        with monkeypatch.context() as patch:
            patch.setattr(image_processing_lavit, "PART_SIZE", 5_000)
            parts = pixel_values(LaVITImageProcessor(size=size), pictures)
        assert torch.equal(parts, whole)


def test_long_strips_keep_what_they_show(image_processor):
    """A gradient along a side of 200,000 pixels, which are reduced first, is the gradient of a short side."""
    ramp = np.repeat(np.linspace(0, 255, 200_000).round().astype(np.uint8)[:, None], 3, axis=1)
    level = 1 / 255 / min(image_processor.image_std)
    for axis in (0, 1):
        strip = np.expand_dims(ramp, 1 - axis)
        short = np.ascontiguousarray(strip[::100] if axis == 0 else strip[:, ::100])
        error = pixel_values(image_processor, strip) - pixel_values(image_processor, short)
        assert error.abs().max() < 1.5 * level


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_opened_images_have_the_limit_of_files(image_processor, rgb, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    opened = Image.open(io.BytesIO(encoded(Image.fromarray(rgb))))
    for image in (opened, Image.fromarray(rgb), rgb, torch.from_numpy(rgb)):
        with pytest.raises(ValueError, match=r"too large.* x \d+ pixels are more than 500"):
            image_processor(image)
    assert pixel_values(image_processor, rgb[:10]).shape == (1, 3, SIZE, SIZE)


def test_views_of_one_number_are_not_copied(image_processor):
    huge = np.broadcast_to(np.uint8(0), (100_000, 100_000, 3))
    for image in (huge, torch.zeros(1, 1, 1).expand(3, 100_000, 100_000)):
        with pytest.raises(ValueError, match="too large"):
            image_processor(image)


def test_a_limit_and_formats_of_ones_own(rgb):
    data = encoded(Image.fromarray(rgb))
    assert load_image(data, max_pixels=600).size == (30, 20)
    with pytest.raises(ValueError, match="30 x 20 pixels are more than 599"):
        load_image(data, max_pixels=599)
    with pytest.raises(ValueError, match="not an image in a format"):
        load_image(data, formats=("JPEG",))


@pytest.fixture
def endless_server():
    """Sends what a path asks for: too much, too slowly, or what becomes too much."""
    server = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def answer(connection: socket.socket) -> None:
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
        with connection, suppress(OSError):
            path = connection.recv(1000).split()[1]
            if path.startswith(b"/packed"):
                encoding = path.partition(b"-")[2]
                connection.sendall(head + b"Content-Encoding: " + encoding + b"\r\n\r\n" + gzip.compress(bytes(2**25)))
            elif path == b"/endless":
                connection.sendall(head + b"\r\n")
                while not ended.is_set():
                    connection.sendall(bytes(2**16))
            elif path == b"/around":
                connection.sendall(head.replace(b"200 OK", b"302 Found") + b"Location: /around\r\n\r\n")
            else:  # drop by drop: the head of the answer, or what follows it
                connection.sendall(b"HTTP/1.1 200 OK\r\n" if path == b"/slow-head" else head + b"\r\n")
                while not ended.wait(0.05):
                    connection.sendall(b"X-Drop: 1\r\n")

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    ended.set()
    server.close()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("endless", "is larger than 1 MB"),
        ("packed-gzip", "is larger than 1 MB"),
        ("packed-br", "encoding 'br', which was not requested"),
        ("around", "cannot be downloaded.*redirects"),
        ("slow-body", "not downloaded within"),
        ("slow-head", "not downloaded within"),
    ],
)
def test_downloads_end(endless_server, monkeypatch, path, message):
    monkeypatch.setattr(image_download, "MAX_DOWNLOAD_BYTES", 2**20)
    monkeypatch.setattr(image_download, "DOWNLOAD_TIMEOUT", 60.0 if "slow" not in path else 0.5)
    with pytest.raises(ValueError, match=message):
        load_image(f"{endless_server}/{path}")


BAD_ARRAYS = {
    "no axes": (np.zeros((), np.uint8), r"2 or 3 axes.*shape \(\)"),
    "one axis": (np.zeros(9, np.uint8), r"2 or 3 axes.*shape \(9,\)"),
    "five axes": (np.zeros((1, 1, 3, 8, 8), np.uint8), r"2 or 3 axes.*shape \(1, 1, 3, 8, 8\)"),
    "two channels": (np.zeros((8, 9, 2), np.uint8), r"shape \(8, 9, 2\) has no axis of 1, 3 or 4 channels"),
    "no pixels": (np.zeros((0, 8, 3), np.uint8), r"shape \(0, 8, 3\) has no pixels"),
    "no grey pixels": (torch.zeros(8, 0), r"shape \(1, 8, 0\)|shape \(8, 0\) has no pixels"),
    "NaN": (np.full((8, 8, 3), np.nan, np.float32), "NaN or infinite"),
    "infinity": (torch.full((3, 8, 8), torch.inf), "NaN or infinite"),
    "normalized": (np.linspace(-2, 2, 192, dtype=np.float32).reshape(8, 8, 3), "from -2 to 2.*normalization"),
    "between the scales": (
        np.linspace(0, 1.5, 192).reshape(8, 8, 3),
        r"from 0 to 1.5.*neither \[0, 1\] nor \[0, 255\]",
    ),
    "float above 255": (torch.full((3, 8, 8), 256.0), r"neither \[0, 1\] nor \[0, 255\]"),
    "negative integers": (np.full((8, 8, 3), -1, np.int8), r"values from -1 to -1.*\[0, 255\]"),
    "large integers": (torch.full((3, 8, 8), 256), "values from 256 to 256.*uint16"),
    "complex": (np.zeros((8, 8, 3), np.complex64), "complex64 is not an image"),
    "strings": (np.full((8, 8, 3), "a"), "dtype <U1 is not an image"),
    "objects": (np.full((8, 8, 3), None), "dtype object is not an image"),
}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_arrays_are_refused(image_processor, name):
    array, message = BAD_ARRAYS[name]
    with pytest.raises(ValueError, match=message):
        image_processor(array)


def test_wrong_channel_axis_is_refused(image_processor, rgb):
    with pytest.raises(ValueError, match=r"shape \(20, 30, 3\), read as channels_first, has 20"):
        image_processor(rgb, input_data_format="channels_first")
    with pytest.raises(ValueError, match="channels_lost"):
        image_processor(rgb, input_data_format="channels_lost")


def test_bad_pil_images_are_refused(image_processor):
    with pytest.raises(ValueError, match=r"no pixels.*0 x 5"):
        image_processor(Image.new("RGB", (0, 5)))
    with pytest.raises(ValueError, match=r"32-bit pixels outside \[0, 65535\]"):
        image_processor(Image.new("I", (4, 4), 65536))
    with pytest.raises(ValueError, match="mode La to RGB"):
        image_processor(Image.new("La", (4, 4)))


@pytest.mark.parametrize("images", [None, 3, {"image": 1}, [[0.5, 0.5]], pytest.param(object(), id="object")], ids=str)
@pytest.mark.parametrize("do_rescale", [True, False])
def test_what_is_no_image_is_refused(image_processor, images, do_rescale):
    with pytest.raises(TypeError, match=r"An image must be a PIL image.*got (NoneType|int|dict|float|object)"):
        image_processor(images, do_rescale=do_rescale)


@pytest.mark.parametrize("images", [[], [[], []], np.zeros((0, 3, 8, 8), np.uint8)], ids=["list", "nested", "batch"])
def test_no_images_are_refused(image_processor, images):
    with pytest.raises(ValueError, match="no images"):
        image_processor(images)


def test_impossible_options_are_refused(image_processor, rgb):
    with pytest.raises(ValueError, match=r"'height' and 'width'.*shortest_edge"):
        image_processor(rgb, size={"shortest_edge": 32})
    with pytest.raises(ValueError, match="only reads RGB"):
        image_processor(rgb, do_convert_rgb=False)


# Saving and loading


def test_round_trip(image_processor, rgb, tmp_path):
    saved = type(image_processor)(size=24, image_mean=[0.1, 0.2, 0.3], resample=Image.Resampling.BILINEAR)
    saved.save_pretrained(tmp_path)
    loaded = type(image_processor).from_pretrained(tmp_path)
    assert loaded.to_dict() == saved.to_dict() != image_processor.to_dict()
    assert torch.equal(pixel_values(loaded, rgb), pixel_values(saved, rgb))


@needs_torchvision
def test_either_backend_loads_the_file_of_the_other(tmp_path):
    written = []
    for index, (writer, reader) in enumerate(
        [(LaVITImageProcessor, LaVITImageProcessorPil), (LaVITImageProcessorPil, LaVITImageProcessor)]
    ):
        writer(size=24).save_pretrained(tmp_path / str(index))
        written.append(json.loads((tmp_path / str(index) / "preprocessor_config.json").read_text()))
        assert reader.from_pretrained(tmp_path / str(index)).to_dict() == writer(size=24).to_dict()
    assert written[0] == written[1]


@pytest.mark.parametrize("image_processor_class", BACKENDS)
def test_auto_class_loads_the_backend_that_is_asked_for(image_processor_class, tmp_path):
    LaVITImageProcessorPil(size=24).save_pretrained(tmp_path)
    backend = image_processor_class().backend
    loaded = AutoImageProcessor.from_pretrained(tmp_path, backend=backend)
    assert type(loaded) is image_processor_class and loaded.size == {"height": 24, "width": 24}


@pytest.mark.slow
def test_pil_backend_needs_no_torchvision(golden, tmp_path):
    LaVITImageProcessorPil(size=golden.facts["dims"]["image_size"]).save_pretrained(tmp_path)
    code = """
import sys
sys.modules["torchvision"] = None  # an import of it now fails, as where it is not installed

import torch
from transformers import AutoImageProcessor
from lavit_hf import LaVITImageProcessor, LaVITImageProcessorPil

folder, *paths = sys.argv[1:]
image_processor = AutoImageProcessor.from_pretrained(folder)
assert type(image_processor) is LaVITImageProcessorPil is LaVITImageProcessor
torch.save(image_processor(paths, return_tensors="pt").pixel_values, f"{folder}/pixel_values.pt")
"""
    command = [sys.executable, "-c", code, tmp_path, *golden.image_paths]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    actual = torch.load(tmp_path / "pixel_values.pt", weights_only=True)
    torch.testing.assert_close(actual, golden.tensors["pixel_values"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("image_processor_class", BACKENDS)
class TestWhichImage:
    @pytest.mark.filterwarnings("ignore")
    @pytest.mark.parametrize(
        "change",
        [
            lambda image: torch.quantize_per_tensor(image, 0.1, 0, torch.quint8),
            lambda image: image.to_sparse(),
            lambda image: image.to("meta"),
            lambda image: image * float("nan"),
            lambda image: image[:2],
        ],
        ids=["quantized", "sparse", "meta", "NaN", "two channels"],
    )
    def test_tensors(self, image_processor_class, change):
        images = [torch.rand(3, 8, 8) for _ in range(3)]
        images[1] = change(images[1])
        with pytest.raises(ValueError, match=r"^Image 1 of 3: "):
            image_processor_class(size=8)(images)

    def test_paths(self, image_processor_class, tmp_path):
        for number, value in enumerate([0.5, np.nan]):
            Image.fromarray(np.full((5, 4), value, np.float32)).save(tmp_path / f"{number}.tiff")
        with pytest.raises(ValueError, match=r"Image 1 of 2: .*1\.tiff' .* NaN"):
            image_processor_class(size=8)([tmp_path / "0.tiff", tmp_path / "1.tiff"])

    def test_list_in_itself(self, image_processor_class):
        images = []
        images += [images, images]
        with pytest.raises(ValueError, match="contains itself"):
            image_processor_class(size=8)(images)

    @pytest.mark.parametrize("name", ["do_resize", "image_std", "size"])
    def test_arguments(self, image_processor_class, name):
        with pytest.raises(ValueError, match=name):
            image_processor_class(size=8)(Image.new("RGB", (4, 4)), **{name: []})


def test_exif_that_cannot_be_read_is_ignored():
    image = Image.new("RGB", (8, 8), "red")
    file = io.BytesIO()
    image.save(file, "PNG", exif=b"Exif\0\0junkjunk")
    image_processor = LaVITImageProcessorPil(size=8)
    expected = image_processor(image, return_tensors="pt").pixel_values
    image.info["exif"] = b"junk"
    for spoilt in (image, file.getvalue(), image):  # Pillow fails the first time only
        assert torch.equal(image_processor(spoilt, return_tensors="pt").pixel_values, expected)
