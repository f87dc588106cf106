# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Collates samples of stage 2 (paper, section 3.2) into batches of token ids, targets and images to read."""

from collections.abc import Iterable

import torch

from ..lavit.configuration_lavit import LaVITConfig
from ..lavit.modeling_layers import IGNORE_INDEX, pad_left
from ..lavit.processing_lavit import LaVITProcessor
from .errors import TrainingError
from .feature_rows import from_bytes
from .language_data import CODES_TEXT


class LanguageCollator:
    """
    Converts samples to token ids, with the same layout as the processor's prompts and `generate`, and batches them.

    - An image to read: `[IMG][/IMG]`, an optional question, **text, end of sequence**. Further questions with **their
      answers, each with an end of sequence,** follow as in the chat template, as long as they fit into
      `max_text_length`. If the image is read by its codes, they are placed between the marks.
    - An image to write: text, `[IMG]`, **codes, `[/IMG]`**. `[IMG]` without text is the unconditional prompt of
      guidance. The codes of an example image, without marks, may precede the text.
    - Text only: **text, end of sequence**, except for the first id.

    Targets are bold. Special tokens spelled in a text, such as `[IMG]` or `</s>`, are treated as text. A text longer
    than `max_text_length` is truncated, without an end of sequence, and counted in `num_cut`.

    Args:
        processor ([`LaVITProcessor`]):
            LaVIT's processor, which provides the tokenizer and image processor.
        config ([`LaVITConfig`]):
            The model's configuration. Images are read with the patches that their codes were computed from, unless the
            understanding branch has its own selector.
        max_text_length (`int`):
            Maximum number of tokens of a text, including its question, or of all questions and answers.

        has_examples (`bool`, *optional*, defaults to `False`):
            Whether samples may have an example image.

    Raises:
        TrainingError: If the longest sample would not fit into the language model's context.
    """

    def __init__(
        self, processor: LaVITProcessor, config: LaVITConfig, max_text_length: int, has_examples: bool = False
    ):
        self.tokenizer, self.image_processor = processor.tokenizer, processor.image_processor
        self.start, self.end = self.tokenizer.image_start_token_id, self.tokenizer.image_end_token_id
        self.end_of_text = self.tokenizer.eos_token_id
        self.visual_config = config.visual_tokenizer_config
        self.shared_selection = not config.understanding_selector
        self.max_text_length = max_text_length
        self._num_cut = torch.zeros(1, dtype=torch.long).share_memory_()
        num_images = 2 if has_examples else 1
        longest = max_text_length + num_images * self.visual_config.num_patches + 3  # marks and the end of sequence
        context = getattr(config.text_config, "max_position_embeddings", None) or longest
        if longest > context:
            raise TrainingError(
                f"a sample may be {longest} tokens long, but the language model's context ends at {context}. Lower "
                "max_text_length."
            )

    @property
    def num_cut(self) -> int:
        """Number of texts truncated so far."""
        return int(self._num_cut)

    def __call__(self, samples: list[dict]) -> dict[str, torch.Tensor]:
        turns = [turn for sample in samples for turn in _turns_of(sample)]
        ids = self._tokenize({question for question, _ in turns} | {question + answer for question, answer in turns})
        sequences = [self._lay_out(sample, ids) for sample in samples]
        input_ids = [torch.tensor([token for part in parts for token in part]) for parts in sequences]
        labels = [torch.tensor(_label(parts)) for parts in sequences]
        batch = {
            "input_ids": pad_left(input_ids, self.tokenizer.pad_token_id),
            "attention_mask": pad_left([torch.ones_like(sequence) for sequence in input_ids], 0),
            "labels": pad_left(labels, IGNORE_INDEX),
        }
        if int(batch["input_ids"].max()) >= len(self.tokenizer):
            raise TrainingError(
                "the data contains codes beyond the codebook: it was made by another visual tokenizer."
            )
        return batch | self._stack_images([sample["image"] for sample in samples if sample["layout"] == "image_text"])

    def _tokenize(self, texts: Iterable[str]) -> dict[str, list[int]]:
        texts = [text for text in texts if text]
        if not texts:
            return {"": []}
        encoded = self.tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)
        return {"": [], **dict(zip(texts, encoded["input_ids"]))}

    def _lay_out(self, sample: dict, ids: dict[str, list[int]]) -> list[list[int]]:
        """Returns the ids of a sample in parts, which alternate between context and targets."""
        if sample["layout"] == "text_image":
            prompt = self._cut(ids[sample["prompt"]])
            context = [*self._code_ids(sample.get("example", ())), *prompt, self.start]
            return [context, [*self._code_ids(sample["codes"]), self.end]]
        (question, answer), *further = (self._lay_out_turn(*turn, ids) for turn in _turns_of(sample))
        if sample["layout"] == "text":
            text = question + answer
            return [text[:1], text[1:]]
        codes = self._code_ids(sample["codes"]) if sample["layout"] == CODES_TEXT else ()
        parts = [[self.start, *codes, self.end, *question], answer]
        length = len(question) + len(answer)
        for turn in further:
            length += sum(map(len, turn))
            if length > self.max_text_length:
                break
            parts += turn
        return parts

    def _lay_out_turn(self, question: str, answer: str, ids: dict[str, list[int]]) -> tuple[list[int], list[int]]:
        """Returns the ids of a question, and those of its answer with an end of sequence."""
        prompt, whole = ids[question], ids[question + answer]
        if whole[: len(prompt)] != prompt:  # the answer would change the tokens of its question
            whole = prompt + self._tokenize([answer])[answer]
        cut = self._cut(whole)
        text = [*cut, self.end_of_text] if len(cut) == len(whole) else cut
        return text[: len(prompt)], text[len(prompt) :]

    def _code_ids(self, codes: Iterable[int]) -> list[int]:
        return [self.end + 1 + code for code in codes]

    def _cut(self, ids: list[int]) -> list[int]:
        self._num_cut += len(ids) > self.max_text_length
        return ids[: self.max_text_length]

    def _stack_images(self, images: list[dict]) -> dict[str, torch.Tensor]:
        if not images:
            return {}
        sizes, batch = self.visual_config, {}
        if self.shared_selection and "keep_mask" in images[0]:
            batch["keep_mask"] = torch.tensor([image["keep_mask"] for image in images])
        if "features" in images[0]:
            features = [from_bytes(image["features"], sizes.feature_size) for image in images]
            batch["image_features"] = torch.stack(features)
        elif "rows" in images[0]:
            batch["image_rows"] = torch.cat([from_bytes(image["rows"], sizes.hidden_size) for image in images])
        else:
            pictures = [image["image"] for image in images]
            batch["pixel_values"] = self.image_processor(pictures, return_tensors="pt").pixel_values
        return batch


def _turns_of(sample: dict) -> list[tuple[str, str]]:
    """Returns the questions of a sample with their answers; a text or a prompt alone is one of them."""
    return [(sample["prompt"], sample["answer"]), *(sample.get("further") or ())]


def _label(parts: list[list[int]]) -> list[int]:
    """Returns the targets of a sample's parts, every other of which is context."""
    return [token if number % 2 else IGNORE_INDEX for number, part in enumerate(parts) for token in part]


__all__ = ["LanguageCollator"]
