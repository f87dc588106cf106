# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The tokenizer: SentencePiece's ids for text, ids of their own for images, and nothing between them."""

import json
import pickle
import random
import subprocess
import sys

import pytest
import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, ByT5Tokenizer, LlamaTokenizer, PreTrainedTokenizerFast

from lavit_hf.lavit.tokenization_lavit import build_tokenizer, load_sentencepiece_tokenizer


CONTROL_TEXTS = ["[IMG]", "a </s> b", "<s>", "<unk>", "[IMG]<code_17>[/IMG]", "<code_3> is a code", "[/IMG]"]


@pytest.fixture(scope="module")
def text_tokenizer(golden):
    return load_sentencepiece_tokenizer(golden.original / "language_model")


@pytest.fixture(scope="module")
def tokenizer(golden, text_tokenizer):
    return build_tokenizer(text_tokenizer, golden.facts["dims"]["n_code"])


@pytest.fixture(scope="module")
def sentencepiece_model(golden):
    return sentencepiece.SentencePieceProcessor(str(golden.original / "language_model" / "tokenizer.model"))


def word_tokenizer(vocab: dict[str, int], **special_tokens) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(vocab)), **special_tokens)


def byte_level_tokenizer(**kwargs) -> PreTrainedTokenizerFast:
    """A tokenizer of GPT-2's kind, one token for each byte."""
    vocab = {char: index for index, char in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE({**vocab, "<|end|>": len(vocab)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", **kwargs)


def read_tokens(tokenizer, text: str) -> list[int]:
    return tokenizer(text, split_special_tokens=False, add_special_tokens=False).input_ids


class TestVocabulary:
    def test_text_then_marks_then_codes_without_a_gap(self, tokenizer):
        assert len(tokenizer) == 32514
        assert tokenizer.convert_ids_to_tokens([31999, 32000, 32001, 32002, 32513]) == [
            "梦",
            "[IMG]",
            "[/IMG]",
            "<code_0>",
            "<code_511>",
        ]
        assert (tokenizer.image_start_token, tokenizer.image_start_token_id) == ("[IMG]", 32000)
        assert (tokenizer.image_end_token, tokenizer.image_end_token_id) == ("[/IMG]", 32001)
        assert sorted(tokenizer.get_vocab().values()) == list(range(32514))

    def test_pads_on_the_left_with_the_unknown_token_of_llama(self, tokenizer):
        batch = tokenizer(["a", "a photo of a dog"], padding=True)
        assert batch.input_ids[0] == [0, 0, 0, 0, 264]
        assert batch.attention_mask[0] == [0, 0, 0, 0, 1]

    def test_keeps_the_special_tokens_of_the_text_tokenizer(self, tokenizer):
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (1, 2, 0)

    def test_leaves_the_text_tokenizer_as_it_was(self, text_tokenizer, tokenizer):
        assert len(text_tokenizer) == 32000
        assert text_tokenizer.split_special_tokens is False

    def test_unused_tokens_fill_up_a_short_text_tokenizer(self, text_tokenizer):
        tokenizer = build_tokenizer(text_tokenizer, codebook_size=4, text_vocab_size=32010)
        assert len(tokenizer) == 32010 + 2 + 4
        assert tokenizer.image_start_token_id == 32010
        assert tokenizer.decode([32000, 264, 32009], skip_special_tokens=True) == "a"
        assert max(tokenizer(tokenizer.decode([32000, 32009])).input_ids) < 32000

    def test_other_spellings_of_the_marks(self, text_tokenizer):
        tokenizer = build_tokenizer(text_tokenizer, 4, image_start_token="<|img|>", image_end_token="<|/img|>")
        assert tokenizer.decode([32000, 32002, 32001]) == "<|img|><code_0><|/img|>"
        assert tokenizer.image_end_token_id == 32001

    def test_any_kind_of_text_tokenizer(self):
        tokenizer = build_tokenizer(byte_level_tokenizer(model_max_length=77), codebook_size=8, text_vocab_size=260)
        ids = [*tokenizer(" a 🍎\n").input_ids, 260, 262, 269, 261, *tokenizer("b").input_ids]
        assert len(tokenizer) == 270
        assert tokenizer.decode(ids) == " a 🍎\n[IMG]<code_0><code_7>[/IMG]b"
        assert read_tokens(tokenizer, tokenizer.decode(ids)) == ids
        assert tokenizer.pad_token == "<|end|>"
        assert tokenizer.model_max_length == 77

    def test_llama_tokenizer_of_transformers(self, golden):
        llama = LlamaTokenizer.from_pretrained(golden.original / "language_model")
        tokenizer = build_tokenizer(llama, codebook_size=512)
        assert len(tokenizer) == 32514
        assert tokenizer("a photo of a dog").input_ids == golden.facts["text_ids"]["a photo of a dog"]


class TestText:
    def test_golden_ids(self, golden, tokenizer):
        for text, ids in golden.facts["text_ids"].items():
            assert tokenizer(text).input_ids == ids, text

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "   ",
            "\n",
            "\t\ttabs",
            " leading space",
            "   three leading",
            "trailing   ",
            "\r\nwindows\r\n",
            "▁ literal mark",
            "▁▁two literal marks",
            "def f(x):\n    return {'a': [x ** 2, *y]}  # code",
            "你好\uff0c世界。こんにちは 안녕하세요",
            "👩‍👩‍👧 🏳️‍🌈 🍎🍎",
            "e\u0301 \u200b \u00a0 \u3000 \ufeff \x00 \x07",
            "\U0001d49c Ω ß İ ﬁ",
            *CONTROL_TEXTS,
        ],
    )
    def test_ids_are_those_of_sentencepiece(self, tokenizer, sentencepiece_model, text):
        assert tokenizer(text).input_ids == sentencepiece_model.encode(text)

    def test_ids_of_random_strings_are_those_of_sentencepiece(self, tokenizer, sentencepiece_model):
        rng = random.Random(0)
        alphabet = [
            *"abcdefgh XYZ.,;:!?()[]{}<>/\\|=+-*_%#@'\"\n\t0123",
            "  ",
            "ing",
            "é",
            "好",
            "글",
            "И",
            "🍎",
            "▁",
            "</s>",
        ]
        texts = ["".join(rng.choices(alphabet, k=rng.randrange(30))) for _ in range(500)]
        assert tokenizer(texts).input_ids == [sentencepiece_model.encode(text) for text in texts]

    def test_no_beginning_of_sequence_unless_wanted(self, text_tokenizer):
        tokenizer = build_tokenizer(text_tokenizer, codebook_size=4)
        assert tokenizer("a").input_ids == [264]
        tokenizer.add_bos_token = True
        assert tokenizer("a").input_ids == [1, 264]

    @pytest.mark.parametrize("text", CONTROL_TEXTS)
    def test_text_never_becomes_a_control_token(self, tokenizer, text):
        ids = tokenizer(text).input_ids
        assert not {0, 1, 2} & set(ids)
        assert max(ids) < 32000
        assert tokenizer.decode(ids) == text

    def test_control_tokens_are_read_when_asked_for(self, tokenizer):
        assert read_tokens(tokenizer, "[IMG]<code_17>[/IMG]</s>") == [32000, 32019, 32001, 2]


class TestImages:
    def test_golden_ids_print_as_text_and_parse_back(self, golden, tokenizer):
        for ids in golden.facts["image_token_ids"]:
            text = tokenizer.decode(ids)
            assert text == "[IMG]" + "".join(f"<code_{id - 32002}>" for id in ids[1:-1]) + "[/IMG]"
            assert read_tokens(tokenizer, text) == ids

    def test_decoding_strips_them_on_request(self, golden, tokenizer):
        image, text = golden.facts["image_token_ids"][0], golden.facts["text_ids"]["a photo of a dog"]
        assert tokenizer.decode([1, *text[:3], *image, *text[3:], 2], skip_special_tokens=True) == "a photo of a dog"

    @pytest.mark.parametrize("before", ["", "a red", " spaced", "line\n"])
    @pytest.mark.parametrize("after", ["", "apple on grass", "  two spaces", "\n\nnew lines", "(punctuation)", "你好"])
    def test_text_around_an_image_parses_back_to_the_same_ids(self, tokenizer, before, after):
        ids = [*tokenizer(before).input_ids, 32000, 32002, 32513, 32001, *tokenizer(after).input_ids]
        assert read_tokens(tokenizer, tokenizer.decode(ids)) == ids

    def test_a_word_that_goes_on_after_an_image_parses_back(self, tokenizer):
        ids = [32000, 32002, 32001, *tokenizer.convert_tokens_to_ids(["ing", "▁the"])]
        assert tokenizer.decode(ids) == "[IMG]<code_0>[/IMG]ing the"
        assert read_tokens(tokenizer, tokenizer.decode(ids)) == ids


class TestSaving:
    def test_pickle(self, golden, tokenizer):
        copy = pickle.loads(pickle.dumps(tokenizer))
        assert copy.get_vocab() == tokenizer.get_vocab()
        assert copy("[IMG]  a").input_ids == tokenizer("[IMG]  a").input_ids

    @pytest.mark.slow
    def test_auto_tokenizer_loads_it_without_this_package(self, golden, tokenizer, tmp_path):
        tokenizer.save_pretrained(tmp_path)
        (tmp_path / "config.json").write_text('{"model_type": "lavit"}')
        texts = [*golden.facts["text_ids"], "[IMG]<code_511>", "  x"]
        script = f"""
import json, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained({str(tmp_path)!r})
texts = json.loads(sys.stdin.read())
print(json.dumps([
    "lavit_hf" in sys.modules, len(tokenizer), tokenizer.image_start_token_id, tokenizer.padding_side,
    tokenizer(texts).input_ids, tokenizer(texts, split_special_tokens=False).input_ids,
    tokenizer.decode([32000, 32002, 32001]), tokenizer.decode([32000, 32002, 32001], skip_special_tokens=True),
]))"""
        command = [sys.executable, "-c", script]
        result = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True)
        expected = [tokenizer(texts).input_ids, tokenizer(texts, split_special_tokens=False).input_ids]
        assert json.loads(result.stdout) == [False, 32514, 32000, "left", *expected, "[IMG]<code_0>[/IMG]", ""]

    def test_full_size(self, text_tokenizer, tmp_path):
        build_tokenizer(text_tokenizer, codebook_size=16384).save_pretrained(tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        assert len(tokenizer) == 48386
        assert tokenizer.convert_tokens_to_ids("<code_16383>") == 48385


class TestErrors:
    def test_text_tokenizer_larger_than_the_model(self, text_tokenizer):
        with pytest.raises(ValueError, match="32000 tokens, more than text_vocab_size=31000"):
            build_tokenizer(text_tokenizer, codebook_size=4, text_vocab_size=31000)

    def test_image_tokens_are_there_already(self, tokenizer):
        with pytest.raises(ValueError, match=r"already has the token '\[IMG\]' \(id 32000\)"):
            build_tokenizer(tokenizer, codebook_size=4)

    @pytest.mark.parametrize("marks", [("<x>", "<x>"), ("", "<x>"), ("<x>", "<code_3>")])
    def test_marks_that_are_not_two_tokens(self, text_tokenizer, marks):
        with pytest.raises(ValueError, match="must be two different tokens"):
            build_tokenizer(text_tokenizer, 4, image_start_token=marks[0], image_end_token=marks[1])

    @pytest.mark.parametrize("codebook_size", [0, -1])
    def test_no_codes(self, text_tokenizer, codebook_size):
        with pytest.raises(ValueError, match=f"codebook_size must be at least 1, got {codebook_size}"):
            build_tokenizer(text_tokenizer, codebook_size)

    def test_gaps_in_the_ids(self):
        with pytest.raises(ValueError, match="2 tokens, but ids up to 7"):
            build_tokenizer(word_tokenizer({"a": 0, "</s>": 7}, eos_token="</s>"), codebook_size=4)

    def test_nothing_to_pad_with(self):
        with pytest.raises(ValueError, match="Set its `pad_token`"):
            build_tokenizer(word_tokenizer({"a": 0, "b": 1}), codebook_size=4)

    def test_tokenizer_in_python(self):
        with pytest.raises(TypeError, match="ByT5Tokenizer is not backed by the `tokenizers` library"):
            build_tokenizer(ByT5Tokenizer(), codebook_size=4)

    def test_no_sentencepiece_model(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no SentencePiece model at .*tokenizer\.model"):
            load_sentencepiece_tokenizer(tmp_path)
