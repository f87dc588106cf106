# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
An independent judge of drawn pictures: a linear probe on the encoder's features that names what a picture shows.

It learns from the training drawings alone, as they are and at the resolution in which LaVIT paints, and has no part in
training LaVIT.
"""

from collections.abc import Iterable, Sequence

import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy

from lavit_hf import LaVITImageProcessor, LaVITVisualTokenizer


class Judge(nn.Module):
    """
    Names pictures.

    Args:
        visual_tokenizer ([`LaVITVisualTokenizer`]): Whose frozen encoder looks at the pictures.
        image_processor ([`LaVITImageProcessor`]): Its image processor.
        names (`Sequence[str]`): All names there are.
    """

    def __init__(
        self,
        visual_tokenizer: LaVITVisualTokenizer,
        image_processor: LaVITImageProcessor,
        names: Sequence[str],
    ):
        super().__init__()
        self.visual_tokenizer = visual_tokenizer
        self.image_processor = image_processor
        self.names = sorted(set(names))
        size = 2 * visual_tokenizer.config.feature_size
        self.norm = nn.BatchNorm1d(size, affine=False)
        self.probe = nn.Linear(size, len(self.names))

    @torch.inference_mode()
    def look(self, images: Iterable[Image.Image], batch_size: int = 64) -> torch.Tensor:
        """The encoder's features of pictures, averaged and at their largest, `(number, 2 * feature_size)`."""
        images = [image.convert("RGB") for image in images]
        pooled = []
        for start in range(0, len(images), batch_size):
            pixel_values = self.image_processor(images[start : start + batch_size], return_tensors="pt").pixel_values
            features = self.visual_tokenizer.encode(pixel_values).last_hidden_state
            pooled.append(torch.cat([features.mean(dim=1), features.amax(dim=1)], dim=-1).float())
        return torch.cat(pooled)

    def fit(
        self,
        looks: torch.Tensor,
        names: Sequence[str],
        epochs: int = 40,
        batch_size: int = 512,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.05,
        seed: int = 0,
    ) -> "Judge":
        """Learns the names of pictures it has looked at, `looks` being `(number, 2 * feature_size)`."""
        index = {name: number for number, name in enumerate(self.names)}
        targets = torch.tensor([index[name] for name in names])
        optimizer = torch.optim.AdamW(self.probe.parameters(), lr=learning_rate, weight_decay=weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        shuffle = torch.Generator().manual_seed(seed)
        self.train()
        for _ in range(epochs):
            for batch in torch.randperm(len(looks), generator=shuffle).split(batch_size):
                loss = cross_entropy(self.probe(self.norm(looks[batch])), targets[batch], label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
        return self.eval()

    @torch.inference_mode()
    def rank(self, looks: torch.Tensor, names: Sequence[str]) -> torch.Tensor:
        """The place of the right name among all, 0 being the first, `(number,)`."""
        index = {name: number for number, name in enumerate(self.names)}
        scores = self.probe(self.norm(looks))
        right = scores.gather(1, torch.tensor([index[name] for name in names])[:, None])
        return (scores > right).sum(dim=1)


def at_painted_size(images: Iterable[Image.Image], size: int) -> list[Image.Image]:
    """Pictures made as small as LaVIT paints them and large again, so that the judge knows such pictures."""
    images = [image.convert("RGB") for image in images]
    return [
        image.resize((size, size), Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC)
        for image in images
    ]


def train_judge(
    visual_tokenizer: LaVITVisualTokenizer,
    image_processor: LaVITImageProcessor,
    images: Sequence[Image.Image],
    names: Sequence[str],
    painted_size: int,
) -> Judge:
    """A judge that has learned from pictures as they are and as LaVIT could paint them."""
    judge = Judge(visual_tokenizer, image_processor, names)
    looks = torch.cat([judge.look(images), judge.look(at_painted_size(images, painted_size))])
    return judge.fit(looks.clone(), [*names, *names])
