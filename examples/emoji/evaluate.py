# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
What a LaVIT trained on emoji can do, on drawings that it never saw: one table, and contact sheets to look at.

    python examples/emoji/evaluate.py --model .cache/emoji/lavit-emoji --data .cache/emoji/set --output evaluation
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from datasets import Dataset, load_from_disk
from judge import Judge, train_judge
from PIL import Image, ImageFilter

from lavit_hf import LaVITPipeline
from lavit_hf.lavit.atomic_files import atomic_file
from lavit_hf.visualization import draw_keep_mask, image_grid, save_image


SPLITS = ("test_drawings", "test_concepts")
PHOTOGRAPHS = Path(__file__).parents[1] / "images"
SHEET_SIZE = 48  # pictures on a contact sheet
CANDIDATES = 8  # paintings that the pipeline chooses from, where it may choose
CAPTIONING = {"greedy": {"num_beams": 1}, "beam": {"num_beams": 5}}


@dataclass
class Held:
    """Held-out drawings with what CLDR says of them."""

    images: list[Image.Image]
    names: list[str]
    keywords: list[list[str]]

    @classmethod
    def of(cls, drawings: Dataset) -> "Held":
        images = [image.convert("RGB") for image in drawings["image"]]
        return cls(images, list(drawings["name"]), list(drawings["keywords"]))


def batches(items: Sequence, size: int = 50) -> list[Sequence]:
    """Cuts a sequence into pieces of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def score_captions(captions: Sequence[str], held: Held) -> dict[str, float]:
    """
    Exact match with the name, share of the name's words that the caption holds, and share of pictures whose caption
    has a word in common with the name or a keyword.
    """
    spoken = [set(caption.lower().split()) for caption in captions]
    named = [set(name.lower().split()) for name in held.names]
    known = [set(" ".join([name, *keywords]).lower().split()) for name, keywords in zip(held.names, held.keywords)]
    return {
        "exact_match": float(np.mean([a.strip().lower() == b.lower() for a, b in zip(captions, held.names)])),
        "keyword_recall": float(np.mean([len(a & b) / len(b) for a, b in zip(spoken, named)])),
        "any_keyword": float(np.mean([bool(a & b) for a, b in zip(spoken, known)])),
    }


def read(pipeline: LaVITPipeline, images: Sequence[Image.Image], **settings) -> list[str]:
    """Captions of pictures."""
    captions = []
    for batch in batches(images):
        inputs = pipeline.processor(images=[[image] for image in batch], text=[""] * len(batch), return_tensors="pt")
        ids = pipeline.language_model.generate(**inputs, max_new_tokens=16, do_sample=False, **settings)
        new = ids[:, inputs.input_ids.shape[1] :]
        captions += pipeline.processor.post_process_caption(
            pipeline.processor.batch_decode(new, skip_special_tokens=True)
        )
    return captions


def read_photographs(pipeline: LaVITPipeline, folder: Path) -> dict[str, str]:
    """What it says about photographs, which it was not trained on; no figure, for reading."""
    paths = sorted(folder.glob("*.jpg"))
    captions = read(pipeline, [Image.open(path).convert("RGB") for path in paths])
    return {path.stem: caption for path, caption in zip(paths, captions)}


def busyness(image: Image.Image) -> float:
    """How much there is to see: the mean strength of a picture's edges."""
    return float(np.asarray(image.convert("L").filter(ImageFilter.FIND_EDGES)).mean())


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's."""
    ranks = [np.argsort(np.argsort(values)) for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


@torch.inference_mode()
def score_tokens(pipeline: LaVITPipeline, held: Held) -> tuple[dict[str, float], list[torch.Tensor]]:
    """Kept patches, codebook usage and the cosine of rebuilt features; and the keep masks."""
    tokenizer = pipeline.language_model.visual_tokenizer
    kept, codes, cosines, masks = [], [], [], []
    for batch in batches(held.images):
        outputs = tokenizer(**pipeline.processor.image_processor(list(batch), return_tensors="pt"))
        rebuilt = pipeline.detokenizer(codes=outputs.codes).features
        cosine = torch.nn.functional.cosine_similarity(rebuilt.float(), outputs.last_hidden_state.float(), dim=-1)
        cosines += cosine.mean(dim=1).tolist()
        kept += [len(image) for image in outputs.codes]
        codes += outputs.codes
        masks += list(outputs.keep_mask)
    used = len(torch.cat(codes).unique())
    figures = {
        "reconstruction_cosine": float(np.mean(cosines)),
        "kept_mean": float(np.mean(kept)),
        "kept_std": float(np.std(kept)),
        "kept_min": min(kept),
        "kept_max": max(kept),
        "kept_with_busyness": rank_correlation(kept, [busyness(image) for image in held.images]),
        "codes_used": used / tokenizer.config.codebook_size,
    }
    return figures, masks


def paint(
    pipeline: LaVITPipeline, held: Held, from_text: bool, seed: int, num_candidates: int = 1
) -> list[Image.Image]:
    """Pictures of the names, or of the drawings' own tokens."""
    pictures = []
    for start, batch in zip(range(0, len(held.names), 50), batches(held.names if from_text else held.images)):
        generator = torch.Generator().manual_seed(seed + start)
        call = pipeline if from_text else pipeline.reconstruct
        pictures += call(list(batch), generator=generator, num_candidates=num_candidates).images
    return pictures


def score_pictures(judge: Judge, pictures: Sequence[Image.Image], names: Sequence[str]) -> dict[str, float]:
    """How often the judge gives a picture its name first, or among its first five."""
    ranks = judge.rank(judge.look(pictures).clone(), names)
    return {"top_1": (ranks < 1).float().mean().item(), "top_5": (ranks < 5).float().mean().item()}


def evaluate_split(pipeline: LaVITPipeline, judge: Judge, held: Held, folder: Path, seed: int) -> dict:
    """All figures of a split, its contact sheets saved in `folder`."""
    captions = {name: read(pipeline, held.images, **settings) for name, settings in CAPTIONING.items()}
    figures = {f"caption_{name}": score_captions(texts, held) for name, texts in captions.items()}
    figures["tokens"], masks = score_tokens(pipeline, held)
    rebuilt = paint(pipeline, held, from_text=False, seed=seed)
    drawn = paint(pipeline, held, from_text=True, seed=seed)
    if set(held.names) <= set(judge.names):  # it cannot name what it has learned no name of
        pictures = {
            "judge_on_drawings": held.images,
            "reconstruction": rebuilt,
            "reconstruction_chosen": paint(pipeline, held, False, seed, CANDIDATES),
            "text_to_picture": drawn,
            "text_to_picture_chosen": paint(pipeline, held, True, seed, CANDIDATES),
        }
        figures |= {name: score_pictures(judge, shown, held.names) for name, shown in pictures.items()}
    save_sheets(folder, held, masks, rebuilt, drawn, captions["greedy"])
    return figures


def save_sheets(folder: Path, held: Held, masks, rebuilt, drawn, captions: Sequence[str]) -> None:
    """Contact sheets: kept patches with captions, reconstructions beside drawings, pictures of names."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = np.random.default_rng(0).permutation(len(held.images))[:SHEET_SIZE]
    size = held.images[0].size
    overlays = [draw_keep_mask(held.images[i], masks[i]) for i in shown]
    titles = [f"{captions[i]} ({held.names[i]})" for i in shown]
    save_image(image_grid(overlays, columns=8, titles=titles), folder / "captions.png")
    pairs = [image.resize(size) for i in shown for image in (held.images[i], rebuilt[i])]
    save_image(image_grid(pairs, columns=8), folder / "reconstructions.png")
    drawings = [drawn[i].resize(size) for i in shown]
    titles = [held.names[i] for i in shown]
    save_image(image_grid(drawings, columns=8, titles=titles), folder / "drawings.png")


def main(
    model: Annotated[Path, typer.Option(help="The repo to evaluate.")],
    data: Annotated[Path, typer.Option(help="What prepare.py wrote.")],
    output: Annotated[Path, typer.Option(help="Folder for the table and the contact sheets.")],
    split: Annotated[list[str] | None, typer.Option(help="Splits to evaluate; the held-out ones by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
) -> None:
    """Evaluate on held-out drawings and write `evaluation.json`."""
    dataset = load_from_disk(data)
    pipeline = LaVITPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    train = Held.of(dataset["train"])
    painted_size = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    judge = train_judge(
        pipeline.language_model.visual_tokenizer,
        pipeline.processor.image_processor,
        train.images,
        train.names,
        painted_size,
    )
    figures = {"chance_top_5": 5 / len(judge.names), "photographs": read_photographs(pipeline, PHOTOGRAPHS)}
    for name in split or SPLITS:
        figures[name] = evaluate_split(pipeline, judge, Held.of(dataset[name]), output / name, seed)
    with atomic_file(output / "evaluation.json") as file:
        file.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    typer.run(main)
