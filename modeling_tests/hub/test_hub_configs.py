# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The configurations of the published models in hub_configs/."""

import importlib.util
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from huggingface_hub import ModelCard
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPImageProcessorPil,
    GenerationConfig,
)
from transformers.pipelines import PIPELINE_REGISTRY

from lavit_hf import (
    LaVITConfig,
    LaVITDetokenizer,
    LaVITForCausalLM,
    LaVITPipeline,
    bundled_checkpoint,
)
from lavit_hf.conversion.inference import infer_detokenizer_config
from lavit_hf.conversion.layout import PIXEL_DECODERS
from lavit_hf.conversion.pixel_decoder import MODEL_CLASSES, empty_model
from lavit_hf.conversion.plan import plan_file


FOLDER = Path(__file__).parents[2] / "hub_configs"
RELEASES = {"LaVIT-7B-v1": False, "LaVIT-7B-v2": True}  # whether reading has a selector of its own
BUNDLED = Path(bundled_checkpoint())
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/config.json"))


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """What the script that writes the folders would write now."""
    spec = importlib.util.spec_from_file_location("generate", FOLDER / "generate.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    folder = tmp_path_factory.mktemp("hub_configs")
    script.main(folder)
    return folder


def read(folder: Path) -> dict[str, object]:
    """Every file's content by its name, without the versions of the libraries that wrote it."""
    content = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        text = path.read_text()
        content[path.relative_to(folder).as_posix()] = json.loads(text) if path.suffix == ".json" else text
    for name in ("config.json", "generation_config.json"):
        content[name].pop("transformers_version")
    return content


def test_names():
    assert sorted(RELEASES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_is_up_to_date(generated, name):
    """Else: `python hub_configs/generate.py`."""
    assert read(FOLDER / name) == read(generated / name)


@pytest.mark.parametrize("name", NAMES)
def test_model_and_generation(name):
    config = AutoConfig.from_pretrained(FOLDER / name)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    assert type(model) is LaVITForCausalLM
    assert GenerationConfig.from_pretrained(FOLDER / name).image_generation["guidance_scale"] > 1
    size = config.visual_tokenizer_config.image_size
    assert dict(AutoImageProcessor.from_pretrained(FOLDER / name).size) == {"height": size, "width": size}


@pytest.mark.parametrize(("name", "own_selector"), RELEASES.items())
def test_sizes_of_the_releases(golden, name, own_selector):
    config = LaVITConfig.from_pretrained(FOLDER / name)
    with torch.device("meta"):
        model = LaVITForCausalLM(config)
    assert (model.understanding.selector is not None) == own_selector
    language_model = nn.ModuleList([model.language_model, model.lm_head])
    assert sum(weight.numel() for weight in language_model.parameters()) == pytest.approx(6.87e9, rel=0.01)
    assert (config.first_code_token_id, config.text_config.vocab_size) == (32002, 48386)
    # Against what the release holds.
    layout = json.loads((golden.root / "layout_7b.json").read_text())
    for path, part in {
        "visual_tokenizer/eva_vitg_psz14.bin": model.visual_tokenizer.encoder,
        "language_model/pytorch_model.bin": language_model,
    }.items():
        skipped = ("norm.", "head.", "fc_norm.")
        shapes = [shape for key, shape in layout[path].items() if not key.startswith(skipped)]
        released = sum(torch.Size(shape).numel() for shape in shapes)
        assert sum(weight.numel() for weight in part.state_dict().values()) == pytest.approx(released, rel=1e-3)


@pytest.mark.parametrize("name", RELEASES)
def test_processor_is_the_converters(converted, name):
    """But for the sizes, which differ from the small checkpoint's."""
    expected, found = read_both(converted, FOLDER / name, "processor_config.json")
    for config in (expected["image_processor"], expected):
        config.pop("auto_map")
    assert found["image_processor"].pop("size") == {"height": 224, "width": 224}
    expected["image_processor"].pop("size")
    assert found == expected
    assert (FOLDER / name / "chat_template.jinja").read_text() == (converted / "chat_template.jinja").read_text()
    expected, found = read_both(converted, FOLDER / name, "tokenizer_config.json")
    assert found | {"model_max_length": None} == expected | {"model_max_length": None}


def read_both(first: Path, second: Path, name: str) -> list[dict]:
    return [json.loads((folder / name).read_text()) for folder in (first, second)]


@pytest.mark.parametrize("resolution", PIXEL_DECODERS)
def test_pixel_decoders_of_the_releases(golden, resolution):
    """The parts fit each other and, where the release's shapes are known, the release."""
    layout = PIXEL_DECODERS[resolution]
    folder = FOLDER / "pixel_decoders" / resolution
    config = AutoConfig.from_pretrained(folder, subfolder="detokenizer")
    released = json.loads((golden.root / "layout_7b.json").read_text())[layout.detokenizer.path]
    plan = plan_file(layout.detokenizer, {name: torch.empty(shape, device="meta") for name, shape in released.items()})
    if config.num_negative_embeds:  # in a file of their own
        size = (1, config.num_negative_embeds, *config.cross_attention_dims)
        plan["negative_embeds"] = partial(torch.empty, size, device="meta")
    specs = {name: make() for name, make in plan.items()}
    assert infer_detokenizer_config(specs, config.num_attention_heads).to_diff_dict() | {
        "architectures": config.architectures
    } == config.to_diff_dict() | {"architectures": config.architectures}
    models = {name: empty_model(folder / name, MODEL_CLASSES[name]) for name in layout.models}
    with torch.device("meta"):
        models["detokenizer"] = LaVITDetokenizer(config)
        language_model = LaVITForCausalLM(LaVITConfig.from_pretrained(FOLDER / "LaVIT-7B-v2"))
    extractor = (
        CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor") if layout.feature_extractor else None
    )
    pipeline = LaVITPipeline(
        language_model=language_model,
        processor=AutoProcessor.from_pretrained(BUNDLED),
        scheduler=DDIMScheduler.from_pretrained(folder, subfolder="scheduler"),
        feature_extractor=extractor,
        **models,
    )
    assert pipeline.picture_size == {"highres": 1024, "lowres": 512}[resolution]
    assert models["unet"].config.cross_attention_dim == sum(config.cross_attention_dims)


@pytest.mark.parametrize("name", NAMES)
def test_card(name):
    card = ModelCard.load(FOLDER / name / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag in PIPELINE_REGISTRY.get_supported_tasks()
    assert {"lavit", "multimodal"} <= set(card.data.tags)
    assert (card.data.license or card.data.base_model) in ("apache-2.0", f"rain1011/{name}")
    assert f"# {name}\n" in card.text
    assert "## Limits" in card.text and "## License" in card.text
