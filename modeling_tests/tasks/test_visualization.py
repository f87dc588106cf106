# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Drawings of keep masks and contact sheets."""

import numpy as np
import pytest
import torch
from PIL import Image

from lavit_hf.visualization import draw_keep_mask, image_grid


RED = (200, 40, 40)
GREY_OF_RED = 87  # its luma: 0.299 * 200 + 0.587 * 40 + 0.114 * 40


@pytest.fixture
def image() -> Image.Image:
    return Image.new("RGB", (40, 40), RED)


def test_kept_patches_are_in_color_and_dropped_ones_grey_and_dimmed(image):
    keep_mask = torch.tensor([1, 0, 0, 1], dtype=torch.bool)
    drawing = draw_keep_mask(image, keep_mask, size=40, dimming=0.5)
    assert (drawing.mode, drawing.size) == ("RGB", (40, 40))
    assert drawing.getpixel((10, 10)) == drawing.getpixel((30, 30)) == RED
    for dropped in ((30, 10), (10, 30)):
        red, green, blue = drawing.getpixel(dropped)
        assert red == green == blue == pytest.approx(GREY_OF_RED / 2, abs=1)


def test_every_patch_has_its_place_in_raster_order(image):
    side = 14
    for kept in (0, 13, 14, 100, 195):
        keep_mask = np.zeros(side * side, bool)
        keep_mask[kept] = True
        pixels = np.array(draw_keep_mask(image, keep_mask, size=side * 10, line_width=0))
        rows, columns = np.nonzero(pixels[..., 0] != pixels[..., 1])
        top, left = 10 * (kept // side), 10 * (kept % side)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (top, top + 9, left, left + 9)
        assert len(rows) == 100


def test_outline_is_drawn_around_kept_regions_only(image):
    color = (0, 0, 255)
    keep_mask = [True, True, False, False]
    pixels = np.array(draw_keep_mask(image, keep_mask, size=40, line_width=2, outline_color=color))
    outline = (pixels == color).all(-1)
    expected = np.zeros((40, 40), bool)
    expected[:20] = True
    expected[2:18, 2:38] = False
    assert np.array_equal(outline, expected)


def test_grid_separates_neighbours_that_are_kept(image):
    pixels = np.array(draw_keep_mask(image, torch.ones(4), size=40))
    column = (pixels[5] != pixels[5, 10]).any(-1)
    assert np.flatnonzero(column).tolist() == [0, 1, 20, 38, 39]


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (3, 300)])
def test_longer_side_is_the_size_and_the_aspect_ratio_is_kept(size):
    drawing = draw_keep_mask(Image.new("RGB", size), torch.ones(256), size=300)
    assert max(drawing.size) == 300
    assert drawing.width / drawing.height == pytest.approx(size[0] / size[1], rel=0.01)


def test_masks_of_every_kind_and_images_of_every_mode_are_drawn(image):
    mask = torch.rand(49, generator=torch.Generator().manual_seed(0)) < 0.3
    expected = draw_keep_mask(image, mask)
    for same in (mask.numpy(), mask.float(), mask.long(), mask.tolist(), mask.bfloat16().requires_grad_()):
        assert draw_keep_mask(image, same) == expected
    for mode in ("RGBA", "CMYK"):
        assert draw_keep_mask(image.convert(mode), mask).tobytes() == expected.tobytes()
    assert image.getcolors() == [(1600, RED)]  # the caller's image is left alone


@pytest.mark.parametrize(
    ("keep_mask", "message"),
    [
        (torch.ones(1, 4), r"shape \(num_patches,\).*\(1, 4\)"),
        (torch.ones(5), "square grid.*5"),
        (torch.ones(0), "square grid.*0"),
        (torch.full((4,), 0.5), "zeros and ones"),
        (torch.tensor([-1.6, 0, 0, 0]), "zeros and ones"),
    ],
)
def test_bad_masks_are_refused(image, keep_mask, message):
    with pytest.raises(ValueError, match=message):
        draw_keep_mask(image, keep_mask)


@pytest.mark.parametrize("options", [{"size": 0}, {"line_width": -1}, {"dimming": 1.5}, {"dimming": -0.1}])
def test_bad_options_are_refused(image, options):
    with pytest.raises(ValueError, match="must be positive"):
        draw_keep_mask(image, torch.ones(4), **options)


def test_sheet_places_images_row_by_row():
    colors = [(50 * i, 0, 255 - 50 * i) for i in range(5)]
    sheet = image_grid([Image.new("RGB", (20, 10), color) for color in colors], columns=3, padding=4)
    assert sheet.size == (4 + 3 * 24, 4 + 2 * 14)
    for index, color in enumerate(colors):
        row, column = divmod(index, 3)
        left, top = 4 + 24 * column, 4 + 14 * row
        assert sheet.crop((left, top, left + 20, top + 10)).getcolors() == [(200, color)]
    assert sheet.getpixel((0, 0)) == sheet.getpixel((4 + 24 * 2 + 10, 4 + 14 + 5)) == (255, 255, 255)


def test_smaller_images_stand_in_the_middle_of_their_cell():
    sheet = image_grid([Image.new("L", (20, 20)), Image.new("RGB", (10, 4), RED)], columns=8, padding=0)
    assert sheet.size == (40, 20)
    rows, columns = np.nonzero((np.array(sheet) == RED).all(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 11, 25, 34)


def test_titles_are_written_below_their_image_and_wrapped():
    images = [Image.new("RGB", (100, 20), RED)] * 2
    plain = image_grid(images, columns=1)
    short = image_grid(images, columns=1, titles=["a title", ""])
    long = image_grid(images, columns=1, titles=["a title that is too long for one line of the sheet", ""])
    assert image_grid(images, columns=1, titles=["", ""]) == plain
    assert plain.height < short.height < long.height and plain.width == short.width == long.width
    pixels = np.array(long)
    written = (pixels.sum(-1) < 300) & ~(pixels == RED).all(-1)
    rows, columns = np.nonzero(written)
    assert rows.min() >= 8 + 20 and rows.max() < long.height // 2  # below the first image, above the second
    assert columns.min() >= 8 and columns.max() < 108


def test_bad_sheets_are_refused():
    image = Image.new("RGB", (4, 4))
    with pytest.raises(ValueError, match="at least 1 image and 1 column, got 0 and 2"):
        image_grid([], columns=2)
    with pytest.raises(ValueError, match="at least 1 image and 1 column, got 1 and 0"):
        image_grid([image], columns=0)
    with pytest.raises(ValueError, match="one title per image, got 1 for 2"):
        image_grid([image, image], columns=2, titles=["one"])
