# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Unchanging copies of a tokenizer, because calling a tokenizer can change its settings for all threads."""

import copy
import threading
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase


# The length of each tokenizer, and its readers by whether they read control tokens as plain text.
_readers: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, dict[bool, PreTrainedTokenizerBase]]]
_readers = WeakKeyDictionary()
_making = threading.Lock()


def text_reader(tokenizer: PreTrainedTokenizerBase, split_special_tokens: bool) -> PreTrainedTokenizerBase:
    """
    Returns a copy of a tokenizer for one value of `split_special_tokens`, without truncation and padding.

    transformers writes these settings to the tokenizer's backend before using it, so threads with different settings
    interfere with each other. Copies are cached, and recreated when tokens are added.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            The tokenizer. It isn't modified.
        split_special_tokens (`bool`):
            Whether control tokens written in a text are plain text.

    Returns:
        `PreTrainedTokenizerBase`: The copy, which must not be modified.
    """
    length = len(tokenizer)
    with _making:  # otherwise, two threads would copy the vocabulary twice
        known_length, readers = _readers.get(tokenizer, (None, {}))
        if known_length != length:
            readers = {}
            _readers[tokenizer] = (length, readers)
        if split_special_tokens not in readers:
            readers[split_special_tokens] = _make_reader(tokenizer, split_special_tokens)
        return readers[split_special_tokens]


def _make_reader(tokenizer: PreTrainedTokenizerBase, split_special_tokens: bool) -> PreTrainedTokenizerBase:
    reader = copy.deepcopy(tokenizer)
    reader.split_special_tokens = split_special_tokens
    backend = getattr(reader, "backend_tokenizer", None)
    if backend is not None:  # may contain settings of a concurrent call
        backend.encode_special_tokens = split_special_tokens
        backend.no_truncation()
        backend.no_padding()
    return reader
