# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LaVIT's tokenizer: a text tokenizer extended by the image marks and one token for each code."""

import copy
import os
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import requires_backends


def build_tokenizer(
    text_tokenizer: PreTrainedTokenizerBase,
    codebook_size: int,
    text_vocab_size: int | None = None,
    image_start_token: str = "[IMG]",
    image_end_token: str = "[/IMG]",
) -> PreTrainedTokenizerFast:
    """
    Builds LaVIT's tokenizer (arXiv 2309.04669, section 3.1). Its vocabulary consists of the text tokens, `[IMG]`,
    `[/IMG]`, and one token for each code, without gaps. The result is a standard transformers tokenizer, which
    `AutoTokenizer` can load from a saved folder without this package.

    Special tokens in a string, such as `[IMG]`, `</s>` or `<code_17>`, are tokenized as plain text. Pass
    `split_special_tokens=False` to read them as tokens, which turns a decoded image back into its ids. The tokenizer
    adds no beginning- or end-of-sequence tokens, because LaVIT's prompts have none, and pads on the left.

    Args:
        text_tokenizer (`PreTrainedTokenizerBase`):
            The language model's tokenizer, which must be backed by the `tokenizers` library. It isn't modified.
        codebook_size (`int`):
            Number of codes.
        text_vocab_size (`int`, *optional*):
            Number of text ids of the model, if larger than that of the tokenizer. Unused tokens fill the gap. Defaults
            to the tokenizer's length.
        image_start_token (`str`, *optional*, defaults to `"[IMG]"`):
            Mark at the start of an image.
        image_end_token (`str`, *optional*, defaults to `"[/IMG]"`):
            Mark at the end of an image.

    Returns:
        `PreTrainedTokenizerFast`: A tokenizer with `text_vocab_size + 2 + codebook_size` tokens. Its attributes
        `image_start_token` and `image_end_token` are the marks, and `image_start_token_id` and `image_end_token_id`
        are their ids.

    Raises:
        `TypeError`: If the text tokenizer isn't backed by the `tokenizers` library.
        `ValueError`: If the text tokenizer doesn't fit into `text_vocab_size`, has gaps in its ids, already has one of
            the new tokens, or has no token to pad with; if there are no codes; or if the marks aren't two different
            tokens.

    Example:

    ```python
    >>> from lavit_hf import build_tokenizer, load_sentencepiece_tokenizer

    >>> text_tokenizer = load_sentencepiece_tokenizer("LaVIT-7B-v2/language_model")
    >>> tokenizer = build_tokenizer(text_tokenizer, codebook_size=16384)
    >>> len(tokenizer), tokenizer.image_start_token_id
    (48386, 32000)
    ```
    """
    if codebook_size < 1:
        raise ValueError(f"codebook_size must be at least 1, got {codebook_size}: images are made of codes.")
    backend = _copy_backend(text_tokenizer)
    fillers = _filler_tokens(backend, text_vocab_size)
    codes = [f"<code_{index}>" for index in range(codebook_size)]
    _append_tokens(backend, [*fillers, image_start_token, image_end_token, *codes])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{**text_tokenizer.special_tokens_map, "pad_token": _pad_token(text_tokenizer)},
        extra_special_tokens={"image_start_token": image_start_token, "image_end_token": image_end_token},
        add_bos_token=False,
        add_eos_token=False,
        split_special_tokens=True,
        padding_side="left",
        model_max_length=text_tokenizer.model_max_length,
        clean_up_tokenization_spaces=False,
    )


def load_sentencepiece_tokenizer(path: str | os.PathLike, **kwargs) -> PreTrainedTokenizerFast:
    """
    Loads the SentencePiece model of an original LLaMA. The ids are identical to SentencePiece's for every text, unlike
    those of `LlamaTokenizer`, which differ for texts that begin with a space.

    Args:
        path (`str` or `os.PathLike`):
            The `tokenizer.model` file, or a folder that contains it.
        kwargs (*optional*):
            Arguments of the tokenizer, such as `model_max_length`.

    Returns:
        `PreTrainedTokenizerFast`: The text tokenizer, ready for [`build_tokenizer`].

    Raises:
        `FileNotFoundError`: If there is no such file.
        `ImportError`: If the `sentencepiece` or `protobuf` library is missing.
    """
    path = Path(path)
    path = path / "tokenizer.model" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no SentencePiece model at {path}. Pass a `tokenizer.model` file or its folder."
        )
    # Without them, transformers would only warn, and then read the file as another format.
    requires_backends(load_sentencepiece_tokenizer, ["sentencepiece", "protobuf"])
    converted = PreTrainedTokenizerFast.convert_to_native_format(vocab_file=str(path), legacy=False)
    backend = converted["tokenizer_object"]
    _prefix_text_only_once(backend)
    special_tokens = {name: converted[name] for name in ("bos_token", "eos_token", "unk_token") if name in converted}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special_tokens, **kwargs)


def _prefix_text_only_once(backend: Tokenizer):
    """
    Makes the dummy prefix match SentencePiece: one before the text, even if it begins with a space, and none after an
    added token, so that text decoded after an image is tokenized to the same ids.

    `Metaspace` adds no prefix if its replacement is already there. Because the normalizer has turned spaces into `▁`,
    a `Metaspace` whose replacement is a plain space always adds one, and the next `Metaspace` turns it into `▁`.
    """
    if backend.pre_tokenizer is not None:  # None if the model has no dummy prefix
        prefix = pre_tokenizers.Metaspace(" ", prepend_scheme="first", split=False)
        backend.pre_tokenizer = pre_tokenizers.Sequence([prefix, backend.pre_tokenizer])


def _copy_backend(text_tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    backend = getattr(text_tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise TypeError(
            f"{type(text_tokenizer).__name__} is not backed by the `tokenizers` library. Load it with "
            "`AutoTokenizer`, or an original `tokenizer.model` with `load_sentencepiece_tokenizer`."
        )
    return copy.deepcopy(backend)


def _filler_tokens(backend: Tokenizer, text_vocab_size: int | None) -> list[str]:
    num_tokens, last_id = backend.get_vocab_size(), max(backend.get_vocab().values())
    if num_tokens != last_id + 1:
        raise ValueError(
            f"The text tokenizer has {num_tokens} tokens, but ids up to {last_id}. Its ids must have no gaps for "
            "image ids to follow."
        )
    if text_vocab_size is not None and text_vocab_size < num_tokens:
        raise ValueError(
            f"The text tokenizer has {num_tokens} tokens, more than text_vocab_size={text_vocab_size}. It belongs to "
            "another language model, or already contains image tokens."
        )
    return [f"<unused_{index}>" for index in range(num_tokens, text_vocab_size or num_tokens)]


def _append_tokens(backend: Tokenizer, tokens: list[str]):
    if not all(tokens) or len(set(tokens)) < len(tokens):
        raise ValueError(
            "`image_start_token` and `image_end_token` must be two different tokens, neither empty nor the token "
            "of a code."
        )
    taken = [token for token in tokens if backend.token_to_id(token) is not None]
    if taken:
        raise ValueError(
            f"The text tokenizer already has the token {taken[0]!r} (id {backend.token_to_id(taken[0])}). Pass a "
            "text-only tokenizer, or other tokens as `image_start_token` and `image_end_token`."
        )
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in tokens])


def _pad_token(text_tokenizer: PreTrainedTokenizerBase) -> str:
    for token in (text_tokenizer.pad_token, text_tokenizer.unk_token, text_tokenizer.eos_token):
        if token is not None:
            return token
    raise ValueError("The text tokenizer has no pad, unk or eos token to pad with. Set its `pad_token`.")


__all__ = ["build_tokenizer", "load_sentencepiece_tokenizer"]
