# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Model cards, generated from a LaVIT's configuration."""

from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from huggingface_hub.constants import REPOCARD_NAME

from ..lavit.configuration_lavit import LaVITConfig


TAGS = ("lavit", "multimodal", "image-tokenizer")
READING_TASK, WRITING_TASK = "image-text-to-text", "any-to-any"

PAPER = "[arXiv 2309.04669](https://arxiv.org/abs/2309.04669)"

INTRODUCTION = f"""A LaVIT model ({PAPER}): one language model that reads and writes images. Each
image becomes a sequence of codes whose length depends on its content."""

DECODER_INTRODUCTION = f"""The pixel decoder of a LaVIT model ({PAPER}): it turns image tokens into images."""

READING = """```python
from lavit_hf import LaVITForCausalLM, LaVITProcessor

processor = LaVITProcessor.from_pretrained("{repo}")
model = LaVITForCausalLM.from_pretrained("{repo}")
inputs = processor(images="path/to/image.jpg", return_tensors="pt")
print(processor.post_process_image_text_to_text(model.generate(**inputs)))
```"""

WRITING = """Its pixel decoder turns the codes that the model writes into images:

```python
from lavit_hf import LaVITPipeline

pipeline = LaVITPipeline.from_pretrained("{repo}")
pipeline("a red apple").images[0]
```"""

DECODING = """```python
from lavit_hf import LaVITPipeline

pipeline = LaVITPipeline.from_pretrained("{repo}")
images = pipeline(image_token_ids=tokens).images  # tokens as LaVITForCausalLM.get_image_tokens gives them
```"""

SAMPLING = """Patches are sampled, as in the released models. For repeatable results set
`model.visual_tokenizer.config.selection = "threshold"`."""

LIMITS = """Images are resized to {image_size} x {image_size} pixels, so small print is lost. An image takes one token
per kept patch, at most {num_patches}. What the model says or draws may be wrong and reflects its training data.

This card was generated from the configuration, which records neither the training data nor how well the model
performs."""

LICENSE = """The weights are subject to the licenses of what they were made from: the encoder, the language model and
the training data, or the converted release."""


def create_model_card(
    config: LaVITConfig,
    name: str = "LaVIT",
    repo: str = "path/of/this/folder",
    description: str | None = None,
    num_parameters: int | None = None,
    picture_size: int | None = None,
    sections: Mapping[str, str] | None = None,
    **metadata,
) -> ModelCard:
    """
    Creates a model card.

    Args:
        config (`LaVITConfig`):
            The model's configuration.
        name (`str`, *optional*, defaults to `"LaVIT"`):
            Title of the card.
        repo (`str`, *optional*, defaults to `"path/of/this/folder"`):
            Hub id or path that is loaded in the card's examples.
        description (`str`, *optional*):
            Description of the model, which replaces the general introduction.
        num_parameters (`int`, *optional*):
            Number of parameters of [`LaVITForCausalLM`].
        picture_size (`int`, *optional*):
            Side length of generated images in pixels; `None` if there is no pixel decoder.
        sections (`Mapping[str, str]`, *optional*):
            Additional sections by title. `"Usage"`, `"Sizes"`, `"Limits"` and `"License"` replace the general ones.
        metadata:
            Other arguments of `huggingface_hub.ModelCardData`, such as `license="apache-2.0"`, `datasets` or
            `base_model`. `tags` are added to the general ones.

    Returns:
        `ModelCard`: The card, which can be saved as `README.md` or pushed.

    Raises:
        ValueError: If `eval_results` or `model-index` in `metadata` is invalid.

    Example:

    ```python
    >>> from lavit_hf import LaVITConfig, create_model_card

    >>> card = create_model_card(LaVITConfig(), name="My LaVIT", license="llama2")
    >>> card.data.pipeline_tag
    'image-text-to-text'
    ```
    """
    parts = {
        "Usage": _usage(config, repo, picture_size is not None),
        "Sizes": _size_table(config, num_parameters, picture_size),
        **(sections or {}),
    }
    license = f"The weights are under `{metadata['license']}`." if metadata.get("license") else LICENSE
    for title, text in {"Limits": _limits(config), "License": license}.items():
        parts.setdefault(title, text)
    metadata = {
        "library_name": "transformers",
        "pipeline_tag": READING_TASK if picture_size is None else WRITING_TASK,
        **metadata,
        "tags": [*TAGS, *metadata.get("tags", ())],
    }
    return _compose(ModelCardData(**metadata), name, description or INTRODUCTION, parts)


def create_decoder_card(
    picture_size: int, name: str = "Pixel decoder of LaVIT", repo: str = "path/of/this/folder"
) -> ModelCard:
    """
    Creates the card of a repo with a pixel decoder but no language model.

    Args:
        picture_size (`int`):
            Side length of generated images in pixels.
        name (`str`, *optional*, defaults to `"Pixel decoder of LaVIT"`):
            Title of the card.
        repo (`str`, *optional*, defaults to `"path/of/this/folder"`):
            Hub id or path that is loaded in the card's example.

    Returns:
        `ModelCard`: The card, which can be saved as `README.md` or pushed.
    """
    usage = f"{DECODING.format(repo=repo)}\n\nImages are {picture_size} px on each side."
    data = ModelCardData(library_name="diffusers", tags=list(TAGS))
    return _compose(data, name, DECODER_INTRODUCTION, {"Usage": usage, "License": LICENSE})


def _compose(data: ModelCardData, name: str, introduction: str, parts: Mapping[str, str]) -> ModelCard:
    body = [f"# {name}", introduction]
    body += [f"## {title}\n\n{text.strip()}" for title, text in parts.items()]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n")


def write_model_card(folder: Path, card: ModelCard) -> None:
    """Saves a card in `folder`, unless there already is one."""
    if not (folder / REPOCARD_NAME).exists():
        card.save(folder / REPOCARD_NAME)


def _usage(config: LaVITConfig, repo: str, paints: bool) -> str:
    is_sampled = config.visual_tokenizer_config.selection == "sample"
    parts = [READING, *([WRITING] if paints else []), *([SAMPLING] if is_sampled else [])]
    return "\n\n".join(parts).format(repo=repo)


def _limits(config: LaVITConfig) -> str:
    visual_config = config.visual_tokenizer_config
    return LIMITS.format(image_size=visual_config.image_size, num_patches=visual_config.num_patches)


def _size_table(config: LaVITConfig, num_parameters: int | None, picture_size: int | None) -> str:
    visual, text = config.visual_tokenizer_config, config.text_config
    encoder = getattr(visual.encoder_config, "backbone", None) or visual.encoder_config.model_type  # timm: the name
    ids = f"{config.image_start_token_id}, {config.image_end_token_id}, {config.first_code_token_id} + `k`"
    rows = {
        "encoder": f"{encoder}, {visual.image_size} px",
        "patches": f"{visual.num_patches} of {visual.feature_size} channels",
        "codes": f"{visual.codebook_size} of width {visual.codebook_dim}",
        "language model": f"{text.model_type}, {text.num_hidden_layers} layers of width {text.hidden_size}",
        "text ids": f"0 to {config.text_vocab_size - 1}",
        "`[IMG]`, `[/IMG]`, code `k`": ids,
    }
    if num_parameters is not None:
        rows["parameters, visual tokenizer included"] = _round(num_parameters)
    if picture_size is not None:
        rows["images"] = f"{picture_size} px"
    return "\n".join(["| | |", "| --- | --- |", *(f"| {title} | {text} |" for title, text in rows.items())])


def _round(number: int) -> str:
    for unit, size in (("billion", 10**9), ("million", 10**6)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:,}"


__all__ = ["create_model_card"]
