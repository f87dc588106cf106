# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Scores of generated images against real ones (FID) and against prompts (CLIP score), with `torchmetrics`."""

import pickle
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import CLIPModel, CLIPProcessor

from ..tasks.failures import Failure


class _TensorFeatures(nn.Module):
    """A CLIP model whose features are tensors, as torchmetrics expects."""

    def __init__(self, model: CLIPModel):
        super().__init__()
        self.model, self.config = model, model.config

    def get_image_features(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model.get_image_features(*inputs).pooler_output

    def get_text_features(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model.get_text_features(*inputs).pooler_output


class ClipScorer:
    """
    Measures how well images match their prompts (arXiv 2104.08718).

    Args:
        source (`str`):
            Folder or Hub id of a CLIP model.
        device (`torch.device`):
            Device of the model.

    Raises:
        Failure: If the model cannot be loaded.
    """

    def __init__(self, source: str, device: torch.device):
        from torchmetrics.multimodal import CLIPScore

        try:
            self.model = CLIPModel.from_pretrained(source).eval().to(device)
            self.processor = CLIPProcessor.from_pretrained(source)
        except (OSError, ValueError) as error:
            raise Failure(
                f"the CLIP {source} cannot be loaded ({str(error).splitlines()[0]}). Pass a folder with --clip."
            ) from error
        self.metric = CLIPScore(model_name_or_path=lambda: (_TensorFeatures(self.model), self.processor)).to(device)

    @torch.inference_mode()
    def choose(self, pictures: Sequence[Image.Image], prompt: str) -> int:
        """Returns the index of the image that matches a prompt best."""
        inputs = self.processor(
            text=[prompt], images=list(pictures), return_tensors="pt", padding=True, truncation=True
        )
        return int(self.model(**inputs.to(self.model.device)).logits_per_text[0].argmax())

    @torch.inference_mode()
    def add(self, picture: Image.Image, prompt: str) -> float:
        """Adds an image and returns its score."""
        return float(self.metric(_to_tensor(picture).to(self.model.device), prompt))

    def score(self) -> float:
        """Returns the score over all added images."""
        return float(self.metric.compute())


class FidScorer:
    """
    Computes the Fréchet distance between the features of generated and real images (arXiv 1706.08500).

    Args:
        weights (`Path`, *optional*):
            File with Inception's weights. Downloaded by default.
        device (`torch.device`):
            Device of the model.

    Raises:
        Failure: If the weights cannot be loaded.
    """

    def __init__(self, weights: Path | None, device: torch.device):
        from torchmetrics.image.fid import FrechetInceptionDistance

        try:
            path = None if weights is None else str(weights)
            self.metric = FrechetInceptionDistance(feature_extractor_weights_path=path).to(device)
        except (OSError, RuntimeError, ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise Failure(
                f"the Inception weights{f' in {weights}' if weights else ''}, which FID needs, cannot be loaded "
                f"({str(error).splitlines()[0]}). Pass a file with --fid-weights, or --no-fid."
            ) from error
        self.device = device

    @torch.inference_mode()
    def add(self, pictures: Iterable[Image.Image], real: bool) -> None:
        """Adds generated or real images."""
        for picture in pictures:
            self.metric.update(_to_tensor(picture)[None].to(self.device), real=real)

    def score(self) -> float:
        """Returns the distance between all added images."""
        return float(self.metric.compute())


def _to_tensor(picture: Image.Image) -> torch.Tensor:
    """Converts an image to pixels in 0..255, `(3, height, width)`."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
