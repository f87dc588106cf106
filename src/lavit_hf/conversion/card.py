# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The model card of a converted checkpoint."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from ..configuration_lavit import LaVITConfig


CONTENT = """---
{data}
---

# LaVIT

A LaVIT ([arXiv 2309.04669](https://arxiv.org/abs/2309.04669)) converted from the original layout: one language model
that reads and writes images. An image becomes a sentence of codes whose length follows its content.

| | |
| --- | --- |
| image | {image_size} x {image_size} pixels, {num_patches} patches |
| codes | {codebook_size} of width {codebook_dim} |
| text ids | 0 to {last_text_id} |
| `[IMG]`, `[/IMG]` | {image_start}, {image_end} |
| code `k` | {first_code} + `k` |
| language model | {text_model_type}, width {text_hidden_size}, {text_layers} layers |

```python
from lavit_hf import LaVITForCausalLM, LaVITProcessor

processor = LaVITProcessor.from_pretrained("path/of/this/folder")
model = LaVITForCausalLM.from_pretrained("path/of/this/folder")
inputs = processor(images="path/of/a/picture.jpg", return_tensors="pt")
print(processor.post_process_image_text_to_text(model.generate(**inputs)))
```

{pictures}Patches are sampled, as in the released models. For repeatable results set
`model.visual_tokenizer.config.selection = "threshold"`.

The weights are subject to the licence of the release they come from.
"""


PICTURES = """Its pixel decoder turns what the model writes into pictures:

```python
from lavit_hf import LaVITPipeline

pipeline = LaVITPipeline.from_pretrained("path/of/this/folder")
pipeline("a red apple").images[0]
```

"""


def write_model_card(folder: Path, config: LaVITConfig, has_pixel_decoder: bool = False) -> None:
    """Writes `README.md` with the checkpoint's sizes and id layout into `folder`."""
    visual_config, text_config = config.visual_tokenizer_config, config.text_config
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=["lavit", "multimodal", "image-tokenizer", "any-to-any"],
    )
    content = CONTENT.format(
        data=data.to_yaml(),
        pictures=PICTURES if has_pixel_decoder else "",
        image_size=visual_config.image_size,
        num_patches=visual_config.num_patches,
        codebook_size=visual_config.codebook_size,
        codebook_dim=visual_config.codebook_dim,
        last_text_id=config.text_vocab_size - 1,
        image_start=config.image_start_token_id,
        image_end=config.image_end_token_id,
        first_code=config.first_code_token_id,
        text_model_type=text_config.model_type,
        text_hidden_size=text_config.hidden_size,
        text_layers=text_config.num_hidden_layers,
    )
    ModelCard(content).save(folder / "README.md")
