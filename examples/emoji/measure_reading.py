# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Ablation step: measures how many drawings a LaVIT names correctly, and the loss of the names, from the output of
pretokenize.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from lavit_emoji.measures.ablation_steps import BATCH_SIZE, write_figures
from lavit_emoji.measures.looking import batches
from lavit_emoji.measures.reading import CAPTION_SETTINGS
from lavit_emoji.measures.scoring import score_names
from lavit_hf import LaVITProcessor
from lavit_hf.lavit.modeling_layers import pad_left
from lavit_hf.training.data import load_split
from lavit_hf.training.feature_rows import from_bytes
from lavit_hf.training.language_collator import LanguageCollator
from lavit_hf.training.language_data import CODES_TEXT
from lavit_hf.training.modeling_lavit_pretraining import LaVITForPreTraining
from lavit_hf.training.settings import load_settings


MAX_NAME = 64  # tokens; longer than any name


@dataclass
class Settings:
    """Settings of the step."""

    model: str
    tokens: str
    output: str
    split: str = "validation"
    read_codes: bool = False


class TokenReader:
    """
    Names images that are already tokenized.

    Args:
        model ([`LaVITForPreTraining`]): The model.
        processor ([`LaVITProcessor`]): Its processor.
        read_codes (`bool`): Whether the model reads codes instead of continuous embeddings.
    """

    def __init__(self, model: LaVITForPreTraining, processor: LaVITProcessor, read_codes: bool):
        self.model, self.processor, self.read_codes = model, processor, read_codes

    @torch.inference_mode()
    def caption(self, images: Sequence[Mapping]) -> list[str]:
        """Captions of images, given as rows from pretokenize.py."""
        make_prompts = self._prompts_of_codes if self.read_codes else self._prompts_of_rows
        captions = []
        for batch in batches(images, BATCH_SIZE):
            prompts = make_prompts(batch)
            ids = self.model.generate(**prompts, do_sample=False, **CAPTION_SETTINGS)
            captions += self.processor.batch_decode(ids[:, self._prompt_length(prompts) :], skip_special_tokens=True)
        return self.processor.post_process_caption(captions)

    @torch.inference_mode()
    def loss(self, images: Sequence[Mapping]) -> float:
        """The mean cross-entropy per token of the images' names, a finer measure than the share of correct names."""
        collate = LanguageCollator(self.processor, self.model.config, MAX_NAME)
        total = num_tokens = 0
        for batch in batches(images, BATCH_SIZE):
            outputs = self.model(**collate([self._sample(image) for image in batch]))
            total += float(outputs.text_loss * outputs.num_text_targets)
            num_tokens += int(outputs.num_text_targets)
        return total / num_tokens

    def _sample(self, image: Mapping) -> dict:
        """A row in the collator's format."""
        layout = CODES_TEXT if self.read_codes else "image_text"
        return {"layout": layout, "prompt": "", "answer": image["name"], "codes": image["codes"], "image": image}

    def _prompts_of_codes(self, images: Sequence[Mapping]) -> dict[str, torch.Tensor]:
        config = self.model.config
        ids = [
            torch.tensor([config.image_start_token_id, *codes, config.image_end_token_id])
            for codes in ([config.first_code_token_id + code for code in image["codes"]] for image in images)
        ]
        padding = self.processor.tokenizer.pad_token_id
        masks = [torch.ones_like(prompt) for prompt in ids]
        return {"input_ids": pad_left(ids, padding), "attention_mask": pad_left(masks, 0)}

    def _prompts_of_rows(self, images: Sequence[Mapping]) -> dict[str, torch.Tensor]:
        config = self.model.config
        width = config.visual_tokenizer_config.hidden_size
        rows = [self.model.understanding.projection(from_bytes(image["rows"], width).float()) for image in images]
        slots = torch.tensor([[config.image_start_token_id, config.image_end_token_id]]).expand(len(rows), 2)
        filled = self.model.model.fill_slots(rows, slots)
        return {"inputs_embeds": filled.inputs_embeds, "attention_mask": filled.attention_mask}

    @staticmethod
    def _prompt_length(prompts: Mapping[str, torch.Tensor]) -> int:
        """The number of prompt ids in the output of `generate`, which is 0 for embeddings."""
        return prompts["input_ids"].shape[1] if "input_ids" in prompts else 0


def main() -> None:
    """Run the step and write its figures."""
    (settings,) = load_settings(Settings)
    model = LaVITForPreTraining.from_pretrained(settings.model, dtype=torch.float32).eval()
    reader = TokenReader(model, LaVITProcessor.from_pretrained(settings.model), settings.read_codes)
    # Drawings only: sheets have questions.
    images = [row for row in load_split(settings.tokens, settings.split) if row["name"] and not row["questions"]]
    said = reader.caption(images)
    figures = score_names(said, [row["name"] for row in images], [row["keywords"] for row in images])
    tokens = sum(len(row["codes"]) for row in images) / len(images)
    write_figures(figures | {"loss": reader.loss(images), "tokens": tokens}, settings.output)


if __name__ == "__main__":
    main()
