# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Any images, texts, chats and arguments: the inputs of the model, or a `ValueError` that says what is wrong."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import TemplateError
from PIL import Image

from fuzzing import check_rule, limited
from lavit_hf import LaVITImageProcessor, LaVITImageProcessorPil, LaVITProcessor, bundled_checkpoint


@pytest.fixture(scope="module")
def processor() -> LaVITProcessor:
    return LaVITProcessor.from_pretrained(bundled_checkpoint())


@pytest.fixture(scope="module", params=["pil", "torchvision"])
def image_processor(request):
    return {"pil": LaVITImageProcessorPil, "torchvision": LaVITImageProcessor}[request.param](size=8)


def in_itself() -> list:
    images = []
    images.append(images)
    return images


def strange_tensors() -> list[torch.Tensor]:
    """Every special form of a tensor, all of the shape of an image."""
    image = torch.rand(3, 6, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            torch.quantize_per_tensor(image, 0.1, 0, torch.quint8),
            image.to_sparse(),
            image[0].to_sparse_csr(),
            image.to("meta"),
            image.to_mkldnn(),
            torch.nested.nested_tensor([image[0], image[1]]),
            image.to(torch.float8_e4m3fn),
            torch.complex(image, image),
            image.half(),
            image.double() * 255,
            image.expand(2, 3, 6, 5).to_sparse(),
            torch.quantize_per_tensor(image[None], 0.1, 0, torch.quint8),
        ]


def strange_arrays() -> list[np.ndarray]:
    shapes = [(0,), (), (3,), (3, 4, 5, 6, 7), (3, 0, 4), (2, 2), (5, 4, 3), (2, 5, 4, 3), (9, 9, 9)]
    dtypes = [
        "float32",
        "float16",
        "longdouble",
        "complex64",
        "uint8",
        "int64",
        "uint32",
        "bool",
        "datetime64[s]",
        "U3",
    ]
    special = [np.full((4, 4), np.nan), np.full((4, 4), np.inf), np.full((4, 4), 1.5), np.array([[object()]])]
    return [np.zeros(shape, "uint8") for shape in shapes] + [np.zeros((4, 4), dtype) for dtype in dtypes] + special


GOOD = Image.new("RGB", (5, 4), "red")
EXIF = Image.new("RGB", (5, 4))
EXIF.info["exif"] = b"junk"
IMAGES = [
    *(GOOD, EXIF, *(Image.new(mode, (3, 4)) for mode in ("1", "L", "P", "LA", "PA", "CMYK", "YCbCr", "HSV", "LAB"))),
    *(Image.new(mode, (3, 4)) for mode in ("I", "F", "I;16", "La", "RGBa", "RGBX")),
    *(strange_tensors() + strange_arrays()),
    *(
        "",
        "no such file.png",
        "\ud800",
        "a\0b",
        "http://",
        "https://[",
        "data:image/png;base64,",
        "x" * 5000,
        b"",
        b"PNG",
    ),
    *(in_itself(), None, 5, 0.5, object, {}, {"a": 1}, set(), [], [[]], [[[GOOD]]]),
]
images = st.recursive(st.sampled_from(IMAGES), lambda inner: st.lists(inner, max_size=3), max_leaves=4)

# All of Unicode, halves of surrogate pairs too, and what is special to a LaVIT.
words = st.one_of(
    st.text(max_size=10),
    st.text(st.characters(categories=["Cs", "Cc", "Cf"]), max_size=4),
    st.sampled_from(["<image>", " <image> ", "[IMG]", "[/IMG]", "</s>", "<code_17>", "<|endoftext|>", "▁", "\ufeff"]),
)
texts = st.lists(words, max_size=4).map("".join)
anything = st.one_of(
    texts, st.none(), st.integers(), st.floats(), st.booleans(), st.binary(max_size=4), st.just(in_itself())
)
prompts = st.one_of(texts, st.lists(st.one_of(texts, anything), max_size=3), anything)

numbers = st.sampled_from([None, 0, -1, 1, 3, 8, 2.5, True, "8", float("nan"), 10**30, [], {}])
KWARGS = {
    "generation_mode": st.sampled_from(["text", "image", None, "audio", "", 5, [], {}]),
    "padding": st.sampled_from([True, False, None, "longest", "max_length", "x", 5, []]),
    "truncation": st.sampled_from([True, False, None, "longest_first", "x", 5, []]),
    "max_length": st.sampled_from([None, 0, -1, 1, 3, 8, 2.5, True, "8"]),
    "pad_to_multiple_of": st.sampled_from([None, 0, -1, 1, 3, 8, 2.5, True, "8", []]),
    "padding_side": st.sampled_from(["left", "right", "x", 5, None]),
    "return_tensors": st.sampled_from(["pt", "np", None, "x", 5]),
    "return_offsets_mapping": st.sampled_from([True, False, None, 5]),
    "output_labels": st.sampled_from([True, False, None, "x"]),
    "split_special_tokens": st.sampled_from([True, False, None]),
    "do_resize": st.sampled_from([True, False, None, "x"]),
    "size": st.sampled_from(
        [None, 8, 0, -1, {}, {"height": 8}, {"height": 8, "width": 0}, {"shortest_edge": 8}, "x", []]
    ),
    "image_mean": st.sampled_from([None, 0.5, [0.5], [0.5] * 3, "x", []]),
    "image_std": st.sampled_from([None, 0.5, [0.5], [0.5] * 3, [0.0] * 3, "x", []]),
    "resample": st.sampled_from([None, 0, 3, 99, "x"]),
    "input_data_format": st.sampled_from([None, "channels_first", "channels_last", "x", 5]),
    "videos": st.sampled_from([None, [], "x"]),
}
kwargs = st.dictionaries(st.sampled_from(sorted(KWARGS)), st.none(), max_size=3).flatmap(
    lambda chosen: st.fixed_dictionaries({name: KWARGS[name] for name in chosen})
)

ALLOWED = (ValueError, TypeError)


@limited(short=80, share=0.15)
@given(given_images=images)
def test_images(image_processor, given_images):
    inputs = check_rule(lambda: image_processor(given_images, return_tensors="pt"), ALLOWED)
    assert inputs is None or inputs.pixel_values.isfinite().all()


@limited(short=20, share=0.05)
@given(bad=st.sampled_from(strange_tensors()[:6]), position=st.integers(0, 2))
def test_which_image(image_processor, bad, position):
    batch = [GOOD, GOOD, GOOD]
    batch[position] = bad
    with pytest.raises(ValueError, match=f"Image {position} of 3"):
        image_processor(batch)


@limited(short=100, share=0.2)
@given(given_images=st.one_of(st.none(), st.just(GOOD), images), text=prompts, given_kwargs=kwargs)
def test_call(processor, given_images, text, given_kwargs):
    check_rule(lambda: processor(images=given_images, text=text, **given_kwargs), ALLOWED)


good_parts = st.sampled_from([{"type": "text", "text": "a"}, {"type": "image", "image": GOOD}, {"type": "image"}])
bad_parts = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "image", "video", None, 5, [], "x"]),
        "text": anything,
        "image": images,
    },
)
parts = st.lists(st.one_of(good_parts, bad_parts, anything), max_size=3)
good_messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant"]), "content": st.one_of(texts, st.lists(good_parts, max_size=3))}
)
bad_messages = st.fixed_dictionaries({}, optional={"role": anything, "content": st.one_of(anything, parts)})
messages = st.lists(st.one_of(good_messages, good_messages, bad_messages, anything), max_size=3)
chats = st.one_of(st.lists(good_messages, min_size=1, max_size=3), messages, st.lists(messages, max_size=2), anything)


@limited(short=80, share=0.1)
@given(chat=chats, tokenize=st.booleans())
def test_chats(processor, chat, tokenize):
    arguments = {"tokenize": tokenize, "return_dict": tokenize}
    check_rule(lambda: processor.apply_chat_template(chat, **arguments), (*ALLOWED, TemplateError))
