# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What users see on their terminal is ours: libraries add named progress bars and nothing else."""

import importlib.util
import logging
import re
import subprocess
import sys

import pytest
import torch

from documents import ROOT, read_blocks
from lavit_hf import LaVITPipeline, bundled_checkpoint
from lavit_hf.lavit.library_noise import leave_out


PICTURE = "examples/images/emoji/penguin.png"
BAR = re.compile(r"(Loading weights|Loading pipeline components\.\.\.|Writing image tokens|Denoising): ")


def lines_of(code: str) -> list[str]:
    """What a new process of Python writes to stderr, progress bars with a name of their own left out."""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = re.split(r"[\r\n]+", result.stderr.replace("\x1b[A", ""))
    return [line for line in lines if line.strip() and not BAR.match(line)]


@pytest.mark.slow
def test_first_snippet_of_the_readme(tmp_path):
    first = next(block.code for block in read_blocks((ROOT / "README.md").read_text()) if block.language == "python")
    assert lines_of(re.sub(r'save\("', f'save("{tmp_path}/', first)) == []


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("bitsandbytes"), reason="bitsandbytes is not installed")
@pytest.mark.parametrize("bits", [8, 4])
def test_quantized(bits):
    code = f"""
from transformers import BitsAndBytesConfig
from lavit_hf import LaVITForCausalLM, LaVITProcessor, bundled_checkpoint
config = BitsAndBytesConfig(load_in_{bits}bit=True)
model = LaVITForCausalLM.from_pretrained(bundled_checkpoint(), quantization_config=config)
model.generate(**LaVITProcessor.from_pretrained(bundled_checkpoint())(images="{PICTURE}"))
"""
    assert lines_of(code) == []


@pytest.mark.slow
def test_task_pipeline_asks_for_no_chat():
    code = f"""
from transformers import pipeline
from lavit_hf import bundled_checkpoint
captioner = pipeline("image-text-to-text", model=bundled_checkpoint())
captioner(images="{PICTURE}", text="", return_full_text=False)
"""
    assert lines_of(code) == []


@pytest.mark.slow
def test_most_likely_image_tokens():
    """The checkpoint's own temperature, which then means nothing, is not passed on."""
    code = """
from lavit_hf import LaVITPipeline, bundled_checkpoint
pipeline = LaVITPipeline.from_pretrained(bundled_checkpoint())
pipeline("red heart", num_inference_steps=1, generation_kwargs={"do_sample": False})
"""
    assert lines_of(code) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_to_another_dtype(dtype, caplog, capfd):
    pipeline = LaVITPipeline.from_pretrained(bundled_checkpoint(), language_model=None)
    caplog.clear()
    capfd.readouterr()
    assert pipeline.to(dtype).unet.dtype == dtype
    assert caplog.text == "" and capfd.readouterr() == ("", "")


def test_other_warnings_stay(caplog):
    for _ in range(2):
        leave_out("some_library", r"There are \d+ modules")
    logger = logging.getLogger("some_library")
    assert len(logger.filters) == 1
    logger.warning("There are %d modules in it", 3)
    logger.warning("There are modules in it")
    assert caplog.messages == ["There are modules in it"]
