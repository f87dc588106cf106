# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The memory that docs/memory.md tells: counted again, and compared with what loaded models take."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file
from transformers import BitsAndBytesConfig, DynamicCache, LlamaConfig, LlamaForCausalLM

from benchmark_scripts import load_benchmark
from conftest import tiny_visual_config
from hub_client import publish
from lavit_hf import LaVITConfig, LaVITForCausalLM
from lavit_hf.tasks.repo_files import open_repo
from lavit_hf.tasks.weight_sizes import measure_parts


@pytest.fixture(scope="module")
def table():
    return load_benchmark("memory_table")


def parts_of(folder) -> dict:
    return {part.name: part for part in measure_parts(open_repo(str(folder)))}


@pytest.mark.slow
def test_page_is_up_to_date(table):
    """Else: `python benchmarks/memory_table.py --write`."""
    assert table.replace_between(table.MARKS, table.PAGE.read_text(), table.tables()) == table.PAGE.read_text()
    assert table.tables() in table.PAGE.read_text()


def test_write_replaces_what_stands_between_the_marks(table, tmp_path, monkeypatch, capsys):
    page = tmp_path / "memory.md"
    page.write_text(f"before\n{table.MARKS[0]}\nold\n{table.MARKS[1]}\nafter\n")
    monkeypatch.setattr(table, "PAGE", page)
    monkeypatch.setattr(table, "tables", lambda: "| new |")
    table.main(write=True)
    assert page.read_text() == f"before\n{table.MARKS[0]}\n\n| new |\n\n{table.MARKS[1]}\nafter\n"
    assert "| new |" in capsys.readouterr().out


def test_counts_are_the_releases(table, golden):
    """Against the tensors that the release holds, and the known sizes of its U-Nets."""
    layout = json.loads((golden.root / "layout_7b.json").read_text())
    released = {file: sum(map(math.prod, tensors.values())) for file, tensors in layout.items()}
    reader = parts_of(table.RELEASE)
    assert reader["language model"].parameters == released["language_model/pytorch_model.bin"]
    assert reader["understanding branch"].parameters == released["language_model/visual_weight.bin"]
    visual = released["visual_tokenizer/eva_vitg_psz14.bin"] + released["visual_tokenizer/tokenizer_encoder.bin"]
    assert reader["visual tokenizer"].parameters == pytest.approx(visual, rel=0.01)  # less the head and `vit_proj`
    for resolution, detokenizer, unet in (
        ("highres", "highres_tokenizer_decoder", 2_567_463_684),
        ("lowres", "tokenizer_decoder", 859_520_964),
    ):
        decoder = parts_of(table.PIXEL_DECODER_CONFIGS / resolution)
        negative = decoder["detokenizer"].parameters - released[f"visual_tokenizer/{detokenizer}.bin"]
        assert negative == (77 * 768 if resolution == "lowres" else 0)
        assert decoder["unet"].parameters == unet


@pytest.fixture(scope="module")
def configs(repos, tmp_path_factory):
    """A whole LaVIT without its weights."""
    folder = tmp_path_factory.mktemp("configs")
    for path in repos["lowres"].rglob("*.json"):
        if path.parent.name != "processor":
            copy = folder / path.relative_to(repos["lowres"])
            copy.parent.mkdir(exist_ok=True)
            copy.write_text(path.read_text())
    return folder


def test_configs_alone_tell_what_weights_do(repos, configs):
    described, stored = parts_of(configs), parts_of(repos["lowres"])
    assert described.keys() == stored.keys()
    assert "safety checker" in described
    for name, part in stored.items():
        assert described[name].parameters == part.parameters
        assert described[name].bytes | {"stored": 0} == part.bytes | {"stored": 0}
        assert described[name].bytes["stored"] == 0


def test_configs_alone_on_the_hub(reader, configs):
    assert parts_of(publish(reader, "org/configs", configs)) == parts_of(configs)


def test_what_a_run_has_left_does_not_count(tmp_path):
    for name in ("", "unet", "checkpoint-500", ".save.unfinished/new/unet"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        save_file({"weight": torch.zeros(3)}, tmp_path / name / "model.safetensors")
    assert open_repo(str(tmp_path)).list_weights() == ["model.safetensors", "unet/model.safetensors"]
    assert [part.parameters for part in parts_of(tmp_path).values()] == [3, 3]


def test_stored_truth_values_take_a_byte_each(tmp_path):
    save_file({"mask": torch.ones(5, dtype=torch.bool), "weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    (part,) = parts_of(tmp_path).values()
    assert part.bytes["stored"] == 5 + 3 * 4


def test_cache(table):
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    cache = DynamicCache(config=config)
    LlamaForCausalLM(config)(torch.zeros(2, 5, dtype=torch.long), past_key_values=cache, use_cache=True)
    held = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert held == 2 * 5 * table.cache_bytes_per_token(config, width=torch.float32.itemsize)


@pytest.mark.parametrize("bits", ["4bit", "8bit", "16bit"])
def test_counted_is_what_is_loaded(tmp_path, bits):
    text_config = LlamaConfig(
        vocab_size=128, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=2
    )
    config = LaVITConfig(text_config=text_config, visual_tokenizer_config=tiny_visual_config())
    LaVITForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path)
    options = {"dtype": torch.bfloat16}
    if bits != "16bit":
        pytest.importorskip("bitsandbytes")
        options["quantization_config"] = BitsAndBytesConfig(
            **{f"load_in_{bits}": True}, **({"bnb_4bit_quant_type": "nf4"} if bits == "4bit" else {})
        )
    model = LaVITForCausalLM.from_pretrained(tmp_path, **options)
    loaded = load_benchmark("full_size").bytes_of(model)
    counted = sum(part.bytes[bits] for part in parts_of(tmp_path).values())
    assert loaded == pytest.approx(counted, rel=0.01)
