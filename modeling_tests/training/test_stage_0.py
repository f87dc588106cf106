# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Stage 0: the channel statistics of an untrained visual tokenizer."""

import sys
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
import yaml
from transformers import ViTConfig, ViTImageProcessor, ViTModel


pytest.importorskip("datasets")
pytest.importorskip("vector_quantize_pytorch")

from lavit_hf import LaVITVisualTokenizer, bundled_checkpoint
from lavit_hf.training.errors import TrainingError
from training_runs import SIDE, load_script, write_pictures


SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}


@pytest.fixture
def initialize(tmp_path):
    """Runs the script, and returns the statistics that it saved."""

    def run(encoder: str, tokenizer: dict | None = None, **settings) -> dict[str, torch.Tensor]:
        path = tmp_path / "run.yaml"
        sizes = {**SIZES, "codebook_size": 16, "codebook_dim": 8}
        parts = {"tokenizer": {**sizes, **(tokenizer or {})}, "detokenizer": {**SIZES, "cross_attention_dims": []}}
        output = str(tmp_path / "stage-0")
        path.write_text(yaml.safe_dump({"encoder": encoder, "output": output, **parts, **settings}))
        script = load_script("initialize_visual_tokenizer")
        with patch.object(sys, "argv", [script.__file__, str(path)]):
            script.main()
        return statistics_of(output)

    return run


def statistics_of(repo: str | Path) -> dict[str, torch.Tensor]:
    return LaVITVisualTokenizer.from_pretrained(repo).encoder.standardizer.state_dict()


def test_statistics_of_a_lavit_stay_with_its_encoder(initialize):
    expected, found = statistics_of(bundled_checkpoint()), initialize(str(bundled_checkpoint()))
    assert expected["std"].min() != expected["std"].max()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_other_encoders_need_images(initialize, tmp_path):
    folder = tmp_path / "vit"
    ViTModel(ViTConfig(image_size=SIDE, patch_size=8, **SIZES)).save_pretrained(folder)
    ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    sizes = {"image_size": SIDE, "patch_size": 8, "feature_size": 32, "standardize_features": True}
    with pytest.raises(TrainingError, match=r"needs channel statistics, but .*vit has none\. Set dataset"):
        initialize(str(folder), sizes)
    write_pictures(tmp_path / "pictures", 4)
    assert initialize(str(folder), sizes, dataset=str(tmp_path / "pictures"))["mean"].abs().sum() > 0
