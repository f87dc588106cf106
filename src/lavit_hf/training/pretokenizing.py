# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Pretokenization: computes the outputs of a frozen visual tokenizer once, as needed for stage 2."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from tarfile import TarError

import pyarrow as pa
import torch
from datasets import Dataset, Image, IterableDataset

from ..lavit.modeling_visual_tokenizer import LaVITVisualTokenizer
from .encoded_images import read_image
from .errors import TrainingError
from .feature_rows import from_bytes, to_bytes
from .modeling_visual_tokenizer_pretraining import PatchChoice


# Columns that may accompany an image, from the dataset or from a function.
COMPANION_TYPES = {
    "text": pa.string(),
    "texts": pa.list_(pa.string()),
    "prompt": pa.string(),
    "prompts": pa.list_(pa.string()),
    "written": pa.bool_(),
}
# Columns of the stored inputs for reading an image.
ROW_COLUMNS = {"features": "features", "merged": "rows", "none": None}


class Pretokenizer:
    """
    Tokenizes the images of a dataset, or their precomputed features. In a streaming dataset, such as WebDataset
    shards, files are used instead of rows, and each file is encoded as a whole.

    Args:
        visual_tokenizer ([`LaVITVisualTokenizer`]):
            The trained tokenizer.
        dataset (`Dataset` or `IterableDataset`):
            Images or features, with texts.
        image_processor ([`LaVITImageProcessor`], *optional*):
            Prepares images; not needed for features.
        rows (`str`, *optional*, defaults to `"features"`):
            What to store for reading: the encoder's `"features"` (to train the full understanding branch), the
            `"merged"` rows (a third as many, to train only its projection), or `"none"`.
        image_column (`str`, *optional*, defaults to `"image"`):
            Column of the images.
        features_column (`str`, *optional*, defaults to `"features"`):
            Column of features, which are used instead of images if it exists.
        keep_columns (`Sequence[str]`, *optional*):
            Columns to keep besides `text`, `texts`, `prompt`, `prompts` and `written`.
        make_texts (`Callable[[dict], dict]`, *optional*):
            Creates these columns from a row.
        batch_size (`int`, *optional*, defaults to 64):
            Number of images to tokenize at once.
        seed (`int`, *optional*, defaults to 0):
            Random seed, used if the selector samples.
        patch_choice (`PatchChoice`, *optional*):
            Chooses patches instead of the selector (experimental).

    Raises:
        TrainingError: If columns are missing or `rows` is unknown.
    """

    def __init__(
        self,
        visual_tokenizer: LaVITVisualTokenizer,
        dataset: Dataset | IterableDataset,
        image_processor: Callable | None = None,
        rows: str = "features",
        image_column: str = "image",
        features_column: str = "features",
        keep_columns: Sequence[str] = (),
        make_texts: Callable[[dict], dict] | None = None,
        batch_size: int = 64,
        seed: int = 0,
        patch_choice: PatchChoice | None = None,
    ):
        if rows not in ROW_COLUMNS:
            raise TrainingError(f"rows must be one of {', '.join(ROW_COLUMNS)}, got {rows!r}.")
        self.visual_tokenizer, self.image_processor = visual_tokenizer, image_processor
        self.row_column = ROW_COLUMNS[rows]
        self.features_column = features_column if features_column in dataset.column_names else None
        self.image_column = image_column
        self.make_texts, self.patch_choice = make_texts, patch_choice
        self.batch_size, self.seed = batch_size, seed
        needed = [*keep_columns, *([] if self.features_column else [image_column])]
        if missing := [name for name in needed if name not in dataset.column_names]:
            raise TrainingError(
                f"the dataset has no column {', '.join(missing)}, only {', '.join(dataset.column_names)}."
            )
        # Images are decoded one by one to handle unreadable ones.
        self.dataset = dataset if self.features_column else dataset.cast_column(image_column, Image(decode=False))
        self.carried = self._carried_columns([*COMPANION_TYPES, *keep_columns])

    def _carried_columns(self, names: Sequence[str]) -> dict[str, pa.DataType]:
        arrow = self.dataset.features.arrow_schema
        carried = {name: arrow.field(name).type for name in names if name in arrow.names}
        if self.make_texts is None:
            return carried
        first = next(iter(self.dataset), None)
        made = {} if first is None else self.make_texts(first)
        if unknown := sorted(made.keys() - COMPANION_TYPES.keys()):
            raise TrainingError(
                f"texts must go to the columns {', '.join(COMPANION_TYPES)}, not to {', '.join(unknown)}."
            )
        return carried | {name: COMPANION_TYPES[name] for name in made}

    @property
    def num_rows(self) -> int:
        """Number of rows to encode, or of files for a streaming dataset."""
        return self.dataset.num_shards if self.streams else len(self.dataset)

    @property
    def streams(self) -> bool:
        """Whether the dataset is streaming, and read file by file."""
        return isinstance(self.dataset, IterableDataset)

    @property
    def schema(self) -> pa.Schema:
        """Columns of the encoded rows."""
        columns = {"codes": pa.list_(pa.int32()), "keep_mask": pa.list_(pa.bool_()), **self.carried}
        return pa.schema(columns | ({self.row_column: pa.large_binary()} if self.row_column else {}))

    def encode(self, rows: range) -> Iterator[dict]:
        """
        Encodes rows, with reproducible results.

        Args:
            rows (`range`):
                Indices of rows, or of files for a streaming dataset.

        Returns:
            `Iterator[dict]`: The encoded rows, without those with unreadable images.

        Raises:
            TrainingError: If a file cannot be read.
        """
        device = self.visual_tokenizer.device
        generator = torch.Generator(device).manual_seed(self.seed + rows.start)
        images = ((row, image) for row in self._rows(rows) if (image := self._read(row)) is not None)
        while batch := list(islice(images, self.batch_size)):
            yield from self._encode_batch(batch, generator)

    def _rows(self, numbers: range) -> Iterable[dict]:
        if not self.streams:
            return self.dataset.select(numbers)
        return (row for number in numbers for row in self._rows_of_file(number))

    def _rows_of_file(self, number: int) -> Iterator[dict]:
        try:
            yield from self.dataset.shard(self.num_rows, number)
        except (TarError, OSError) as error:
            raise TrainingError(
                f"file {number} of {self.num_rows} (counted from 0) cannot be read: {error}"
            ) from error

    def _read(self, row: dict):
        """Returns the features or the image of a row, or `None` if the image cannot be read."""
        if self.features_column:
            return from_bytes(row[self.features_column], self.visual_tokenizer.config.feature_size)
        return read_image(row[self.image_column])

    @torch.inference_mode()
    def _encode_batch(self, batch: list[tuple], generator: torch.Generator) -> Iterator[dict]:
        rows, images = zip(*batch)
        features = self._features(images)
        keep_mask = None
        if self.patch_choice is not None:
            keep_mask, _ = self.visual_tokenizer.select(
                features, self.visual_tokenizer.embedding(features), generator=generator
            )
            keep_mask = self.patch_choice(keep_mask, features, generator)
        outputs = self.visual_tokenizer.tokenize(features, keep_mask, generator)
        kept = {"features": outputs.last_hidden_state, "rows": outputs.merged}
        for number, row in enumerate(rows):
            encoded = {name: row.get(name) for name in self.carried}
            if self.make_texts is not None:
                encoded |= self.make_texts(row)
            if self.row_column:
                encoded[self.row_column] = to_bytes(kept[self.row_column][number])
            encoded["codes"] = outputs.codes[number].tolist()
            encoded["keep_mask"] = outputs.keep_mask[number].tolist()
            yield encoded

    def _features(self, images: Sequence) -> torch.Tensor:
        tokenizer = self.visual_tokenizer
        if self.features_column:
            return torch.stack(images).to(tokenizer.device, tokenizer.dtype)
        pixel_values = self.image_processor(list(images), return_tensors="pt").pixel_values
        return tokenizer.encode(pixel_values.to(tokenizer.device)).last_hidden_state


__all__ = ["Pretokenizer"]
