# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""A small run of every training script, for what kills them: a few steps, and more than one checkpoint."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset, DatasetDict, Image

from lavit_hf import LaVITForCausalLM, LaVITVisualTokenizerConfig, LaVITVisualTokenizerForPreTraining, PatchAutoencoder
from lavit_hf.training.feature_rows import to_bytes
from lavit_hf.training.shards import write_shards
from tiny_pixels import tiny_language_model, tiny_processor, tiny_text_tokenizer, tiny_unet, tiny_vae
from training_runs import SIDE, write_pictures, write_run, write_tokenizer


NUM_PATCHES, CODEBOOK_SIZE, WIDTH = 16, 24, 32  # of the tiny visual tokenizer
TEXTS = ["a", "red apple", "a dog", "apple a", "red dog", "a red", "dog apple", "red"]
TRAINING = {
    "max_steps": 5,
    "save_strategy": "steps",
    "save_steps": 2,
    "save_total_limit": 1,
    "lr_scheduler_type": "cosine",
    "logging_steps": 2,
}
EVALUATION = {"validation_split": "validation", "eval_strategy": "steps", "eval_steps": 2}


@dataclass
class Run:
    """A script with its run file."""

    name: str
    script: str
    file: Path

    def arguments(self, output: Path, number: int) -> list[str]:
        """The command line that writes to `output` on a number of processes, at the same global batch."""
        if self.script == "pretokenize":
            return ["--output", str(output)]
        return ["--output_dir", str(output), "--per_device_train_batch_size", str(4 // number)]


def write_runs(folder: Path, names: Sequence[str]) -> list[Run]:
    """Writes run files and what they start from into a folder."""
    runs = []
    for name in names:
        script, prepare = RUNS[name]
        place = folder / name
        write_data(place)
        settings = prepare(place)
        file = place / "run.yaml"
        if script == "pretokenize":
            file.write_text(yaml.safe_dump({**settings, "output": str(place / "output")}))
        else:
            write_run(file, **TRAINING, **settings)
        runs.append(Run(name, script, file))
    return runs


def write_data(folder: Path) -> None:
    """Images with codes and texts in two splits, and as a folder with a `metadata.jsonl`."""
    paths = write_pictures(folder / "pictures", 12)
    texts = [TEXTS[number % len(TEXTS)] for number in range(len(paths))]
    lines = [json.dumps({"file_name": path.name, "text": text}) + "\n" for path, text in zip(paths, texts)]
    (folder / "pictures" / "metadata.jsonl").write_text("".join(lines))
    codes = [[number, 2 * number] for number in range(len(paths))]
    rows = Dataset.from_dict({"image": [str(path) for path in paths], "codes": codes, "text": texts})
    rows = rows.cast_column("image", Image())
    DatasetDict(train=rows.take(8), validation=rows.skip(8)).save_to_disk(folder / "set")


def selection(folder: Path) -> dict[str, Any]:
    """Masks drawn at random at first, evaluations and a threshold that is found at the end."""
    data = str(folder / "set")
    model = write_tokenizer(folder / "model", selector_feature_size=20)
    return {"model": str(model), "dataset": data, "validation_dataset": data, "random_mask_steps": 3, **EVALUATION}


def tokenizer(folder: Path) -> dict[str, Any]:
    """Codes that begin late, restart at every step from rows drawn at random, and a rule of the last step's own."""
    model = write_tokenizer(folder / "model", codebook_restart_threshold=3.0)
    ends = {"final_selection": "ratio", "final_selection_share": 0.2}
    begins = {"codebook_rows": 64, "codebook_start_step": 2}
    return {"model": str(model), "dataset": str(folder / "set"), **begins, **ends}


def pretokenize(folder: Path) -> dict[str, Any]:
    model = write_tokenizer(folder / "model", selection="sample")
    settings = {"batch_size": 2, "rows_per_shard": 2, "splits": ["train", "validation"], "use_cpu": True}
    return {"visual_tokenizer": str(model), "dataset": str(folder / "set"), **settings}


def pretrain(folder: Path) -> dict[str, Any]:
    model = write_tokenizer(folder / "model")
    tiny_text_tokenizer().save_pretrained(folder / "words")
    write_shards(8, lambda rows: map(token_row, rows), folder / "tokens" / "train", SCHEMA, {}, 4)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return {
        "visual_tokenizer": str(model),
        "text_tokenizer": str(folder / "words"),
        "text_config": {"model_type": "llama", "attention_dropout": 0.1, **sizes},
        "dataset": str(folder / "tokens"),
        "max_text_length": 16,
    }


def adapters(folder: Path) -> dict[str, Any]:
    """Stage 2 by adapters, which are merged at the end."""
    return {**pretrain(folder), "lora_rank": 2}


def token_row(number: int) -> dict[str, Any]:
    """A row as the pretokenizer writes it."""
    generator = torch.Generator().manual_seed(number)
    kept = torch.zeros(NUM_PATCHES, dtype=torch.bool)
    kept[torch.randperm(NUM_PATCHES, generator=generator)[:5]] = True
    return {
        "codes": torch.randint(CODEBOOK_SIZE, (5,), generator=generator).tolist(),
        "keep_mask": kept.tolist(),
        "features": to_bytes(torch.randn(NUM_PATCHES, WIDTH, generator=generator)),
        "text": TEXTS[number % len(TEXTS)],
    }


SCHEMA = Dataset.from_list([token_row(0)]).features.arrow_schema


def pixel_decoder(folder: Path) -> dict[str, Any]:
    """Noise, dropped conditions, averaged weights and cached latents."""
    config = LaVITVisualTokenizerConfig.from_pretrained(write_tokenizer(folder / "model"))
    config.detokenizer_config.cross_attention_dims = [20]
    torch.manual_seed(0)
    LaVITVisualTokenizerForPreTraining(config).save_pretrained(folder / "model")
    tiny_vae().save_pretrained(folder / "autoencoder" / "vae")
    return {
        "tokenizer": str(folder / "model"),
        "vae": str(folder / "autoencoder"),
        "dataset": str(folder / "set"),
        "unet_config": {name: value for name, value in tiny_unet(False).config.items() if not name.startswith("_")},
        "ema_decay": 0.9,
        "cache_latents": True,
        "sample_steps": 2,
        **EVALUATION,
    }


def autoencoder(folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    fitted = PatchAutoencoder(latent_channels=12, decoder_channels=(16, 8), norm_num_groups=4)
    fitted.save_pretrained(folder / "fitted" / "vae")
    return {"vae": str(folder / "fitted"), "dataset": str(folder / "set"), "size": SIDE, **EVALUATION}


def finetune(folder: Path) -> dict[str, Any]:
    """By adapters with dropout, merged into a model of its own as well."""
    torch.manual_seed(0)
    model: LaVITForCausalLM = tiny_language_model()
    model.save_pretrained(folder / "model")
    tiny_processor().save_pretrained(folder / "model")
    learns = {"lora_rank": 2, "lora_dropout": 0.1, "train_merger": True, "save": "merged"}
    return {"model": str(folder / "model"), "dataset": str(folder / "pictures"), "max_text_length": 16, **learns}


RUNS: dict[str, tuple[str, Callable[[Path], dict[str, Any]]]] = {
    "selection": ("train_token_selection", selection),
    "tokenizer": ("train_visual_tokenizer", tokenizer),
    "pretokenize": ("pretokenize", pretokenize),
    "pretrain": ("pretrain", pretrain),
    "adapters": ("pretrain", adapters),
    "pixel_decoder": ("train_pixel_decoder", pixel_decoder),
    "autoencoder": ("train_patch_autoencoder", autoencoder),
    "finetune": ("finetune", finetune),
}
