# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Ablation step: measures whether images that a trained LaVIT generates from names show the right concept. The features
that the detokenizer reconstructs from the generated codes are compared with the class means of the drawings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from lavit_emoji.measures.ablation_steps import BATCH_SIZE, batched_features, write_figures
from lavit_emoji.measures.looking import ClassMeans, batches
from lavit_hf import LaVITForCausalLM, LaVITProcessor, LaVITVisualTokenizerForPreTraining
from lavit_hf.training.data import load_split
from lavit_hf.training.settings import load_function, load_settings


@dataclass
class Settings:
    """Settings of the step."""

    model: str
    tokenizer: str
    features: str
    output: str
    features_split: str = "train"
    names: int = 300
    seed: int = 0
    row_model: str | None = field(default=None, metadata={"help": "`file.py:class` of a model trained by regression."})


class Writer:
    """
    Generates images from texts, and returns the features reconstructed from their codes.

    Args:
        model ([`LaVITForCausalLM`]): The model.
        processor ([`LaVITProcessor`]): Its processor.
        tokenizer ([`LaVITVisualTokenizerForPreTraining`]): The tokenizer whose detokenizer is used.
    """

    def __init__(
        self, model: LaVITForCausalLM, processor: LaVITProcessor, tokenizer: LaVITVisualTokenizerForPreTraining
    ):
        self.model, self.processor, self.detokenizer = model, processor, tokenizer.detokenizer
        self.detokenizer.set_codebook(tokenizer.visual_tokenizer.quantizer.codebook.weight.detach())
        self.num_patches = tokenizer.config.num_patches

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> list[torch.Tensor]:
        """For each text, the features of its image, `(num_patches, feature_size)`."""
        features = []
        for batch in batches(texts, BATCH_SIZE):
            prompts = self.processor(text=list(batch), generation_mode="image", return_tensors="pt")
            features += self._write(prompts["input_ids"], prompts["attention_mask"])
        return features

    def _write(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[torch.Tensor]:
        if hasattr(self.model, "generate_rows"):
            rows = self.model.generate_rows(input_ids, attention_mask, self.num_patches)
            return list(self.detokenizer(code_rows=rows).features)
        ids = self.model.generate(input_ids=input_ids, attention_mask=attention_mask, generation_mode="image")
        codes = ids[:, input_ids.shape[1] :] - self.model.config.first_code_token_id
        return list(self.detokenizer(codes=[image[image >= 0] for image in codes]).features)


def load_means(settings: Settings, feature_size: int) -> ClassMeans:
    """The class means of the unmodified drawings."""
    rows = load_split(settings.features, settings.features_split)
    told = rows.select_columns(["view", "name", "questions"])
    drawings = [number for number, row in enumerate(told) if row["view"] == 0 and not row["questions"]]
    rows = rows.select(drawings)
    pooled = torch.cat([features.mean(dim=1) for features in batched_features(rows, feature_size)])
    return ClassMeans(pooled, rows["name"][:])


def main() -> None:
    """Run the step and write its figures."""
    (settings,) = load_settings(Settings)
    torch.manual_seed(settings.seed)
    tokenizer = LaVITVisualTokenizerForPreTraining.from_pretrained(settings.tokenizer).eval()
    model_class = load_function(settings.row_model) if settings.row_model else LaVITForCausalLM
    model = model_class.from_pretrained(settings.model, dtype=torch.float32).eval()
    means = load_means(settings, tokenizer.config.feature_size)
    names = means.names[:: max(1, len(means.names) // settings.names)][: settings.names]
    written = torch.stack(Writer(model, LaVITProcessor.from_pretrained(settings.model), tokenizer)(names))
    nearest = means.nearest(written.mean(dim=1), 5)
    figures = {
        "named": sum(found[0] == name for found, name in zip(nearest, names)) / len(names),
        "first_five": sum(name in found for found, name in zip(nearest, names)) / len(names),
    }
    write_figures(figures, settings.output)


if __name__ == "__main__":
    main()
