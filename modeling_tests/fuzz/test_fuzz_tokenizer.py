# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Any text: it becomes text ids and no other, and comes back as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzing import limited
from lavit_hf import LaVITProcessor, bundled_checkpoint


@pytest.fixture(scope="module")
def processor() -> LaVITProcessor:
    return LaVITProcessor.from_pretrained(bundled_checkpoint())


spelled = ["[IMG]", "[/IMG]", "<image>", "<code_0>", "<code_17>", "</s>", "<s>", "<unk>", "<|endoftext|>", "<pad>"]
texts = st.lists(st.one_of(st.text(max_size=20), st.sampled_from(spelled)), min_size=1, max_size=5).map("".join)


@limited(short=100, share=0.05)
@given(text=texts)
def test_text_is_only_ever_text(processor, text):
    tokenizer = processor.tokenizer
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert all(id < tokenizer.image_start_token_id and id not in special for id in ids), ids


@limited(short=50, share=0.05)
@given(text=texts)
def test_slots_are_the_images_that_were_passed(processor, text):
    if not text.strip() or processor.image_token in text:
        return
    ids = processor(text=text, return_tensors=None).input_ids[0]
    assert processor.image_start_token_id not in ids and processor.image_end_token_id not in ids
