# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Writes the model card of `lavit-emoji`, with a table of the results of `evaluate.py`.

    python examples/emoji/card.py --model .cache/emoji/lavit-emoji --evaluation .cache/emoji/evaluation/evaluation.json
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from lavit_emoji.measures.targets import PARTS, shortfalls, targets_table
from lavit_hf import LaVITConfig, create_model_card
from lavit_hf.bundled import BUNDLED_CHECKPOINT
from lavit_hf.lavit.atomic_saving import atomic_update


ATTRIBUTION = Path(__file__).with_name("ATTRIBUTION.md")
FIRST = Path(__file__).with_name("results") / "lavit-emoji-1.json"  # figures of the first lavit-emoji
KEPT_PATCHES = "kept-patches.jpg"

# Suggestions on the demo page.
QUESTIONS = ["What category is this?"]  # answered correctly for every example image of the demo page
PROMPTS = ["watermelon", "red heart", "tomato", "red apple", "star"]

DESCRIPTION = """A small LaVIT ([arXiv 2309.04669](https://arxiv.org/abs/2309.04669)), {megabytes:.0f} MB, bundled
with `lavit_hf`: one language model that reads and writes images of emoji. The encoder is a frozen EfficientNet-Lite0.
Everything else was trained from scratch on two CPU cores, with the scripts that `make checkpoint` runs.{note}"""

USAGE = """```python
from lavit_hf import LaVITPipeline, bundled_checkpoint

pipeline = LaVITPipeline.from_pretrained(bundled_checkpoint())
pipeline("{prompt}").images[0].save("image.png")
```"""

FIGURES = """Measured on held-out drawings and on sheets, for this and the first version of lavit-emoji on the same
images. A *sheet* is a generated image with one to four drawings. *n* is the number of drawings, sheets or questions.
Kept patches and reconstructed features were measured on 1,000 sheets, and sheets of four vs. one drawing on 400. At
n = {everyday}, the standard error is up to {error:.0f} points. A *right word* is a word of the name or of a keyword.

The *probe* assigns a drawing to the nearest class mean of the frozen encoder's features, computed from the training
drawings. It shows what can be read without a language model. *Guessed* is the accuracy of guessing from the words of
the question alone, and *most frequent* that of always giving the most frequent answer of the training sheets.

The *judge* that names generated images is a linear discriminant on the features of the same frozen encoder, fitted to
the training drawings, so it is not independent of the model. *The drawings* shows its accuracy on the held-out
drawings themselves. By chance, the right name is among its first five guesses for {chance:.1%} of the images, and for
{everyday_chance:.1%} if it chooses only among the names of everyday concepts.

{table}

Captions of concepts of which it has seen no drawing: exact name {unknown:.0%}, a right word {unknown_word:.0%}."""

KEPT = """Kept patches are in color, and dropped ones are dimmed.

![Kept patches of drawings, sheets and photographs.]({picture})"""

LIMITS = """The model knows emoji and little else: it captions a photograph with the name of an emoji
({photographs}).
Generated images are small, with simple shapes. The model doesn't write sentences. It names {stranger:.0%} of the
drawings by an artist that it has never seen. Of its answers to yes-or-no questions about left, right, above and below,
{side:.0%} are right; always giving the most frequent answer reaches {side_most_frequent:.0%}.{short}"""

SHORT = """

Targets that were not met:

{figures}"""

LICENSE = """The weights and the encoder, EfficientNet-Lite0, are licensed under Apache-2.0. The model was trained on
the following drawings and words:

{attribution}"""


def describe_photographs(captions: Mapping[str, str]) -> str:
    """Lists the captions of the photographs."""
    return ", ".join(f'{name}: "{caption}"' for name, caption in captions.items())


def training_log(folders: Mapping[str, Path]) -> str:
    """The last logged losses of the stages whose folders exist."""
    lines = []
    for title, folder in folders.items():
        states = sorted(folder.glob("checkpoint-*/trainer_state.json"), key=lambda path: path.stat().st_mtime)
        if states:
            history = json.loads(states[-1].read_text())["log_history"]
            losses = {}
            for entry in history:
                losses |= {name: value for name, value in entry.items() if name.endswith("loss") and value}
            shown = ", ".join(f"{name} {value:.3f}" for name, value in sorted(losses.items()))
            lines.append(f"* {title}, {history[-1]['step']} steps: {shown}")
    return "\n".join(lines)


def describe_figures(figures: Mapping, before: Mapping) -> str:
    """The table, with definitions of its terms."""
    names = figures["pictures"]["names"]
    unknown = figures["captions"]["test_concepts"]["model"]["all"]
    everyday = figures["pictures"]["text_to_picture"]["everyday"]["number"]
    return FIGURES.format(
        table=targets_table(figures, before),
        everyday=everyday,
        error=100 * (0.25 / everyday) ** 0.5,
        chance=5 / names["all"],
        everyday_chance=5 / names["everyday"],
        unknown=unknown["exact"],
        unknown_word=unknown["right_keyword"],
    )


def describe_limits(figures: Mapping, before: Mapping) -> str:
    """What the model can't do, and the targets that were not met."""
    short = "\n".join(f"* {line}" for line in shortfalls(figures, before))
    side = figures["questions"]["test_drawings"]["questions"]["yes_no_side"]
    return LIMITS.format(
        photographs=describe_photographs(figures["captions"]["photographs"]),
        stranger=figures["stranger"]["model"]["all"]["exact"],
        side=side["right"],
        side_most_frequent=side["most_frequent"],
        short=SHORT.format(figures=short) if short else "",
    )


def read_complete(evaluation: Path) -> dict:
    """
    Reads the figures of a complete evaluation.

    Raises:
        `ValueError`: If parts are missing.
    """
    figures = json.loads(evaluation.read_text())
    missing = [name for name in PARTS if name not in figures]
    if missing:
        raise ValueError(f"{evaluation} has no part {missing[0]!r}. Run evaluate.py until it finishes.")
    return figures


def main(
    model: Annotated[Path, typer.Option(help="Output of bundle.py.")],
    evaluation: Annotated[Path, typer.Option(help="Figures written by evaluate.py.")],
    note: Annotated[str, typer.Option(help="Additional sentence about the training.")] = "",
    runs: Annotated[Path, typer.Option(help="Folder with the outputs of all stages.")] = Path(".cache/emoji"),
    before: Annotated[Path, typer.Option(help="Figures of the checkpoint to compare with.")] = FIRST,
) -> None:
    """Write the model card, and save the figures next to it."""
    try:
        figures, others = read_complete(evaluation), json.loads(before.read_text())
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    unet = json.loads((model / "unet" / "config.json").read_text())
    vae = json.loads((model / "vae" / "config.json").read_text())
    stages = {"stage 1": "visual-tokenizer", "stage 2": "language-model", "pixel decoder": "pixel-decoder"}
    log = training_log({title: runs / folder for title, folder in stages.items()})
    megabytes = sum(path.stat().st_size for path in model.rglob("*") if path.is_file()) / 1e6
    card = create_model_card(
        LaVITConfig.from_pretrained(model),
        BUNDLED_CHECKPOINT,
        description=DESCRIPTION.format(megabytes=megabytes, note=f" {note}" if note else ""),
        picture_size=unet["sample_size"] * vae["patch_size"],
        sections={
            "Usage": USAGE.format(prompt=PROMPTS[0]),
            "Results": describe_figures(figures, others),
            **({"Kept patches": KEPT.format(picture=KEPT_PATCHES)} if (model / KEPT_PATCHES).is_file() else {}),
            **({"The end of training": log} if log else {}),
            "Limits": describe_limits(figures, others),
            "License": LICENSE.format(attribution=ATTRIBUTION.read_text().split("\n\n", 2)[2]),
        },
        language="en",
        license="apache-2.0",
        tags=["emoji"],
        lavit={"knows": "emoji", "questions": QUESTIONS, "prompts": PROMPTS},
    )
    with atomic_update(model) as folder:
        card.save(folder / "README.md")
        shutil.copy(evaluation, folder / "evaluation.json")
    print(targets_table(figures, others))


if __name__ == "__main__":
    typer.run(main)
