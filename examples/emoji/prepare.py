# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Builds the emoji dataset: drawings by several artists with human-written names, from pinned npm packages."""

import io
import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from datasets import Dataset, DatasetDict, DatasetInfo, Features, List, Value, disable_progress_bars
from datasets import Image as ImageFeature
from PIL import Image

from lavit_emoji.dataset.concepts import Concept, read_concepts
from lavit_emoji.dataset.drawings import find_drawings, render_with_mask
from lavit_emoji.dataset.packages import PACKAGE_LIST, Style, fetch, read_package_list
from lavit_emoji.dataset.splits import SPLITS, Sizes, find_twins, split_drawings
from lavit_emoji.dataset.texts import COLORED, text_problem
from lavit_hf.lavit.atomic_files import atomic_folder


PEOPLE = re.compile(r"person|family")  # subcategories
RECORD = "preparation.json"
MAX_TEXT_LENGTH = 80  # characters
FEATURES = Features(
    {
        "image": ImageFeature(),
        "mask": ImageFeature(),
        "name": Value("string"),
        "keywords": List(Value("string")),
        "concept": Value("string"),
        "style": Value("string"),
        "artist": Value("string"),
        "category": Value("string"),
        "subcategory": Value("string"),
        "split": Value("string"),
        "licence": Value("string"),
    }
)


@dataclass
class Collection:
    """
    The collected drawings.

    Args:
        rows (`list[dict]`): Rows of the dataset, with Pillow images and without splits.
        skipped (`list[str]`): What was skipped, and why.
    """

    rows: list[dict] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)


def prepare(
    output: Path,
    cache: Path,
    packages: Path = PACKAGE_LIST,
    size: int = 128,
    seed: int = 0,
    sizes: Sizes | None = None,
    fewest_styles: int = 1,
    people: bool = True,
) -> dict:
    """
    Builds the dataset and saves it to disk atomically.

    Args:
        output (`Path`): Folder for the dataset. It must not exist.
        cache (`Path`): Folder for the downloaded packages; missing ones are downloaded.
        packages (`Path`, *optional*): List of the pinned packages. Defaults to `packages.json`.
        size (`int`, *optional*, defaults to 128): Width and height of the images, in pixels.
        seed (`int`, *optional*, defaults to 0): Seed of the splits.
        sizes (`Sizes`, *optional*): How much is held out.
        fewest_styles (`int`, *optional*, defaults to 1): Leaves out concepts that are drawn in fewer styles with the
            use `"train"`.
        people (`bool`, *optional*, defaults to `True`): Whether to include people in roles and families, hundreds of
            concepts that hardly differ.

    Returns:
        `dict`: The record, which is also saved next to the splits as `preparation.json`: seed, sizes, packages, counts
        by style and split, and what was skipped.

    Raises:
        `FileExistsError`: If `output` exists.
        `ValueError`: If a package differs from the pinned one, or too few drawings were found for the held-out splits.
    """
    if output.exists():
        raise FileExistsError(f"{output} already exists. Delete it, or choose another --output.")
    sizes = sizes or Sizes()
    names, styles = read_package_list(packages)
    concepts, skipped = clean_concepts(read_concepts(fetch(names, cache)))
    if not people:
        concepts = {key: concept for key, concept in concepts.items() if not PEOPLE.match(concept.subcategory)}
    collection = collect(styles, cache, concepts, size)
    collection.rows = often_drawn(collection.rows, styles, fewest_styles)
    if not collection.rows:
        raise ValueError(f"No drawings were found. Do the packages in {packages} match the names in {names.name}?")
    twins = find_twins([row["image"] for row in collection.rows], [row["concept"] for row in collection.rows])
    drawings = [(row["concept"], row["style"]) for row in collection.rows]
    splits = split_drawings(drawings, twins, {style.name: style for style in styles}, sizes, seed)
    for row, split in zip(collection.rows, splits, strict=True):
        row["split"] = split
    left_out = Counter(row["style"] for row in collection.rows if row["split"] is None)
    collection.rows = [row for row in collection.rows if row["split"] is not None]
    record = {
        "seed": seed,
        "image_size": size,
        "held_out": asdict(sizes),
        "fewest_styles": fewest_styles,
        "people": people,
        "packages": {package.name: package.version for package in (names, *(style.package for style in styles))},
        "concepts": len({row["concept"] for row in collection.rows}),
        "drawings": len(collection.rows),
        "counts": count(collection.rows),
        "drawings_with_twins": sum(map(bool, twins)),
        "left_out_by_split": dict(left_out),
        "skipped": skipped + collection.skipped,
    }
    save(build(collection.rows, record), record, output)
    return record


def clean_concepts(concepts: dict[str, Concept]) -> tuple[dict[str, Concept], list[str]]:
    """Removes concepts whose name is empty, too long or contains a control token, and such keywords; lists them."""
    good, skipped = {}, []
    for codepoints, concept in concepts.items():
        problem = text_problem(concept.name, MAX_TEXT_LENGTH)
        if problem:
            skipped.append(f"concept {codepoints}: its name {problem}")
            continue
        problems = {keyword: text_problem(keyword, MAX_TEXT_LENGTH) for keyword in concept.keywords}
        skipped += [f"concept {codepoints}: a keyword {problem}" for problem in problems.values() if problem]
        keywords = tuple(keyword for keyword in concept.keywords if not problems[keyword])
        good[codepoints] = Concept(**{**vars(concept), "keywords": keywords})
    return good, skipped


def often_drawn(rows: list[dict], styles: list[Style], fewest_styles: int) -> list[dict]:
    """Removes concepts drawn in too few styles with the use `"train"`; other styles add drawings, but no concepts."""
    counted = {style.name for style in styles if style.use == "train"}
    drawn = Counter(row["concept"] for row in rows if row["style"] in counted)
    return [row for row in rows if drawn[row["concept"]] >= max(fewest_styles, 1)]


def collect(styles: list[Style], cache: Path, concepts: dict[str, Concept], size: int) -> Collection:
    """Renders the drawings of all styles; broken ones are skipped and listed."""
    collection = Collection()
    for style in styles:
        archive = fetch(style.package, cache)
        for codepoints, (source, picture) in find_drawings(style, archive, concepts).items():
            if not style.own_colors and COLORED.match(concepts[codepoints].name):
                continue
            try:
                image, mask = render_with_mask(picture, size)
            except ValueError as error:
                collection.skipped.append(f"{style.package.name}: {source} {error}")
                continue
            collection.rows.append({"image": image, "mask": mask, **_described(concepts[codepoints], style)})
    return collection


def _described(concept: Concept, style: Style) -> dict:
    return {
        "name": concept.name,
        "keywords": list(concept.keywords),
        "concept": concept.codepoints,
        "style": style.name,
        "artist": style.artist,
        "category": concept.category,
        "subcategory": concept.subcategory,
        "licence": style.licence,
    }


def count(rows: list[dict]) -> dict[str, dict[str, int]]:
    """Number of drawings by split and style, without empty splits and styles."""
    counts = Counter((row["split"], row["style"]) for row in rows)
    styles = dict.fromkeys(row["style"] for row in rows)
    table = {split: {style: counts[split, style] for style in styles if counts[split, style]} for split in SPLITS}
    return {split: by_style for split, by_style in table.items() if by_style}


def build(rows: list[dict], record: dict) -> DatasetDict:
    """Creates the dataset, with seed and sizes in its description; splits without drawings are left out."""
    description = f"Emoji drawings. Split: seed {record['seed']}, {record['held_out']}."
    info = DatasetInfo(description=description, features=FEATURES)
    return DatasetDict(
        {
            split: Dataset.from_list([_as_files(row) for row in rows if row["split"] == split], info=info)
            for split in record["counts"]
        }
    )


def _as_files(row: dict) -> dict:
    name = f"{row['style']}-{row['concept']}"
    return {**row, "image": _png(row["image"], f"{name}.png"), "mask": _png(row["mask"], f"{name}-mask.png")}


def _png(image: Image.Image, path: str) -> dict:
    buffer = io.BytesIO()
    image.save(buffer, format="png")
    return {"bytes": buffer.getvalue(), "path": path}


def save(dataset: DatasetDict, record: dict, output: Path):
    """Saves the dataset and the record together, atomically."""
    with atomic_folder(output) as folder:
        dataset.save_to_disk(folder)
        (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")


def main(
    output: Annotated[Path, typer.Option(help="Folder for the dataset; it must not exist yet.")],
    cache: Annotated[Path, typer.Option(help="Folder with the npm packages.")] = Path(".cache/emoji"),
    size: Annotated[int, typer.Option(min=16, help="Image size in pixels.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of the splits.")] = 0,
    held_out_drawings: Annotated[int, typer.Option(min=0, help="Number of concepts with one drawing held out.")] = 300,
    held_out_concepts: Annotated[int, typer.Option(min=0, help="Number of concepts held out entirely.")] = 50,
    validation: Annotated[int, typer.Option(min=0, help="Number of concepts with one drawing for validation.")] = 100,
    fewest_styles: Annotated[int, typer.Option(min=1, help="Leave out concepts drawn in fewer styles.")] = 1,
    people: Annotated[bool, typer.Option(help="Include people in roles and families.")] = True,
) -> None:
    """Download, render, split and save the emoji dataset."""
    disable_progress_bars()
    sizes = Sizes(held_out_drawings, held_out_concepts, validation)
    try:
        record = prepare(output, cache, size=size, seed=seed, sizes=sizes, fewest_styles=fewest_styles, people=people)
    except (OSError, RuntimeError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"{record['drawings']} drawings of {record['concepts']} concepts, seed {seed}, in {output}")
    for split, by_style in record["counts"].items():
        print(f"  {split}: {sum(by_style.values())} ({', '.join(f'{style} {n}' for style, n in by_style.items())})")
    print(f"  skipped: {len(record['skipped'])}")
    for line in record["skipped"]:
        print(f"    {line}")


if __name__ == "__main__":
    typer.run(main)
