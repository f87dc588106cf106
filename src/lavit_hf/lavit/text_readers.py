# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizers that nobody changes, in place of one whose settings every call of it changes for all threads."""

import copy
import threading
from weakref import WeakKeyDictionary

from transformers import PreTrainedTokenizerBase


# Of each tokenizer its length and its readers, by whether they read control tokens as plain text.
_readers: WeakKeyDictionary[PreTrainedTokenizerBase, tuple[int, dict[bool, PreTrainedTokenizerBase]]]
_readers = WeakKeyDictionary()
_making = threading.Lock()


def text_reader(tokenizer: PreTrainedTokenizerBase, split_special_tokens: bool) -> PreTrainedTokenizerBase:
    """
    A copy of a tokenizer that is only ever called with one `split_special_tokens`, and never truncates or pads.

    transformers writes these settings into the tokenizer's backend and reads it right behind, so that threads with
    different ones get each other's. A copy is made when it is first asked for, and anew when tokens were added.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            The tokenizer, which is left as it is.
        split_special_tokens (`bool`):
            Whether control tokens that are spelled out in a text are plain text.

    Returns:
        `PreTrainedTokenizerBase`, not to be changed.
    """
    length = len(tokenizer)
    with _making:  # or two threads would copy the vocabulary twice
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
    if backend is not None:  # with whatever another call has just set
        backend.encode_special_tokens = split_special_tokens
        backend.no_truncation()
        backend.no_padding()
    return reader
