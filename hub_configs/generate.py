# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Writes the folders of the 7B models beside it anew, from the package's defaults, which are theirs.

    python hub_configs/generate.py
"""

import shutil
from pathlib import Path
from typing import Annotated

import torch
import typer
from huggingface_hub import ModelCard
from huggingface_hub.constants import REPOCARD_NAME
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from lavit_hf import LaVITConfig, LaVITForCausalLM, create_model_card
from lavit_hf.conversion.convert import build_processor, released_generation_config


RELEASES = {  # what they differ in
    "LaVIT-7B-v1": {"understanding_selector": False},
    "LaVIT-7B-v2": {"understanding_selector": True},
}
LLAMA_CONTROL_TOKENS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}  # in the order of their ids

DESCRIPTION = """The configuration of [`{release}`](https://huggingface.co/{release}), published by the authors of
LaVIT ([arXiv 2309.04669](https://arxiv.org/abs/2309.04669)): one language model that reads and writes images.
{selector}"""
SELECTORS = {
    False: "When it reads images, it keeps the patches that the visual tokenizer's selector chooses.",
    True: "When it reads images, a separate selector chooses the patches to keep.",
}

USAGE = """The release has its own layout. It contains two pixel decoders (1024 and 512 pixels) and LLaMA's
vocabulary. Convert it once, and `from_pretrained` loads the result, `lavit-7b`:

<!-- not run: needs the 26 GB weights -->
```bash
hf download {release} --local-dir {name}
lavit convert {name} lavit-7b --pixel-decoder highres
```

To create a model of this size without the weights:

```python
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

import lavit_hf  # registers LaVIT with transformers

config = AutoConfig.from_pretrained("hub_configs/{name}")
with torch.device("meta"):
    model = AutoModelForImageTextToText.from_config(config)
```"""

LIMITS = """Images are resized to {image_size} x {image_size} pixels, so small print is lost. Outputs may be wrong and
reflect the web data that the model was trained on. The paper reports the authors' results; they have not been
reproduced with this package."""

LICENSE = """This configuration is Apache-2.0. The weights are subject to the licenses of their release and of the
LLaMA that they were trained from."""


def main(
    output: Annotated[Path, typer.Option(help="Folder of the folders.")] = Path(__file__).parent,
) -> None:
    """Write all folders."""
    for name, settings in RELEASES.items():
        write_release(output / name, LaVITConfig(architectures=[LaVITForCausalLM.__name__], **settings))


def write_release(folder: Path, config: LaVITConfig) -> None:
    """Writes the folder of a 7B model."""
    shutil.rmtree(folder, ignore_errors=True)
    config.text_config.pad_token_id = list(LLAMA_CONTROL_TOKENS).index("unk_token")
    config.save_pretrained(folder)
    released_generation_config(config).save_pretrained(folder)
    processor = build_processor(llama_without_vocabulary(config), config)
    processor.save_pretrained(folder)
    (folder / "tokenizer.json").unlink()  # the vocabulary comes with the release
    release_card(folder.name, config).save(folder / REPOCARD_NAME)


def llama_without_vocabulary(config: LaVITConfig) -> PreTrainedTokenizerFast:
    """A tokenizer that has LLaMA's settings, but no words."""
    vocabulary = {token: number for number, token in enumerate(LLAMA_CONTROL_TOKENS.values())}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary)),
        model_max_length=config.text_config.max_position_embeddings,
        **LLAMA_CONTROL_TOKENS,
    )


def release_card(name: str, config: LaVITConfig) -> ModelCard:
    """The card of a 7B model."""
    release = f"rain1011/{name}"
    with torch.device("meta"):
        num_parameters = LaVITForCausalLM(config).num_parameters()
    return create_model_card(
        config,
        name,
        description=DESCRIPTION.format(release=release, selector=SELECTORS[config.understanding_selector]),
        num_parameters=num_parameters,
        sections={
            "Usage": USAGE.format(release=release, name=name),
            "Limits": LIMITS.format(image_size=config.visual_tokenizer_config.image_size),
            "License": LICENSE,
        },
        base_model=release,
        language="en",
        pipeline_tag="any-to-any",
    )


if __name__ == "__main__":
    typer.run(main)
