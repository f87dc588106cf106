# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Memory of a checkpoint's weights, by part and by precision."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from ..lavit.configuration_lavit import LaVITConfig
from ..lavit.quantization_lavit import UNQUANTIZED_MODULES
from .repo_files import RepoFiles, TensorHeader


# Excludes files of variants (`model.fp16.safetensors`), which contain the same weights again.
_WEIGHTS = re.compile(r"(model|diffusion_pytorch_model)(-\d+-of-\d+)?\.safetensors")

LANGUAGE_MODEL = "language model"
_PARTS_OF_THE_MODEL = {"visual_tokenizer": "visual tokenizer", "understanding": "understanding branch"}
_FULL_MODEL_FOLDERS = ("", "language_model")

MEMORY_COLUMNS = ("stored", "float32", "16bit", "8bit", "4bit")

_BITS = re.compile(r"\D*(\d+)")  # from safetensors' names of dtypes, such as BF16, F32, I8, F8_E4M3
_FULL, _HALF = 4.0, 2.0
_EIGHT_BIT, _FOUR_BIT = 1.0, 0.5
_FOUR_BIT_BLOCK = 64  # weights per scale, bitsandbytes' default; for 8-bit it is one row. Scales are fp32.


@dataclass
class PartSize:
    """
    The size of a part.

    Args:
        name (`str`):
            The part.
        parameters (`int`):
            Number of parameters.
        bytes (`dict[str, float]`):
            Memory in bytes for each of `MEMORY_COLUMNS`.
    """

    name: str
    parameters: int = 0
    bytes: dict[str, float] = field(default_factory=lambda: dict.fromkeys(MEMORY_COLUMNS, 0.0))

    def add(self, tensor: TensorHeader) -> None:
        """Adds a tensor."""
        count = math.prod(tensor.shape)
        self.parameters += count
        widths = {
            "stored": _stored_bytes(tensor.dtype),
            "float32": _FULL,
            "16bit": _half(tensor),
            "8bit": self._quantized(tensor, _EIGHT_BIT, _row_length(tensor)),
            "4bit": self._quantized(tensor, _FOUR_BIT, _FOUR_BIT_BLOCK),
        }
        for name, width in widths.items():
            self.bytes[name] += count * width

    def _quantized(self, tensor: TensorHeader, width: float, block: int) -> float:
        quantized = self.name == LANGUAGE_MODEL and len(tensor.shape) == 2 and not _left_alone(tensor.name)
        return width + _FULL / block if quantized else _half(tensor)

    def as_dict(self) -> dict[str, Any]:
        """Converts the sizes to JSON fields, in whole bytes."""
        return asdict(self) | {"bytes": {name: round(count) for name, count in self.bytes.items()}}


def measure_parts(files: RepoFiles) -> list[PartSize]:
    """
    Measures the parts of a repo. Without weights, the sizes are computed from the configurations.

    Args:
        files (`RepoFiles`):
            The repo.

    Returns:
        `list[PartSize]`: in the order of the files, with those of the language model first.
    """
    parts: dict[str, PartSize] = {}
    weights = list(_stored_weights(files))
    if not weights:
        from .planned_weights import describe_weights  # imports diffusers

        weights = list(describe_weights(files.find_configs()))
    for folder, tensors in sorted(weights, key=_full_model_first):
        find_part = _part_finder(folder)
        for tensor in tensors:
            name = find_part(tensor.name)
            parts.setdefault(name, PartSize(name)).add(tensor)
    return list(parts.values())


def add_up(parts: Sequence[PartSize]) -> PartSize:
    """Returns the total size of all parts."""
    total = PartSize("total", sum(part.parameters for part in parts))
    total.bytes = {name: sum(part.bytes[name] for part in parts) for name in MEMORY_COLUMNS}
    return total


def count_model_parameters(files: RepoFiles) -> int:
    """
    Counts the parameters of the language model with its visual tokenizer, or of a visual tokenizer's own repo. Reads
    nothing of other parts, which on the Hub would be requests.
    """
    weights = _stored_weights(files, _FULL_MODEL_FOLDERS)
    return sum(math.prod(tensor.shape) for _, tensors in weights for tensor in tensors)


def _stored_weights(
    files: RepoFiles, folders: Sequence[str] | None = None
) -> Iterator[tuple[str, list[TensorHeader]]]:
    for file in files.list_weights():
        parent = PurePosixPath(file).parent.as_posix()
        folder = "" if parent == "." else parent
        if _WEIGHTS.fullmatch(PurePosixPath(file).name) and (folders is None or folder in folders):
            yield folder, files.read_headers(file)


def _stored_bytes(dtype: str | None) -> float:
    """Bytes of a stored value; booleans take one."""
    if dtype is None:
        return 0
    bits = _BITS.match(dtype)
    return 1 if bits is None else int(bits[1]) / 8


def _full_model_first(weights: tuple[str, list[TensorHeader]]) -> bool:
    folder, _ = weights
    return folder not in _FULL_MODEL_FOLDERS


def _part_finder(folder: str) -> Callable[[str], str]:
    if folder in _FULL_MODEL_FOLDERS:
        return lambda tensor: _PARTS_OF_THE_MODEL.get(tensor.partition(".")[0], LANGUAGE_MODEL)
    return lambda tensor: folder.replace("_", " ")


def _row_length(tensor: TensorHeader) -> int:
    return tensor.shape[-1] if tensor.shape else 1


def _half(tensor: TensorHeader) -> float:
    return _FULL if "selector" in tensor.name.split(".") else _HALF  # remains in fp32


def _left_alone(name: str) -> bool:
    for renaming in get_checkpoint_conversion_mapping(LaVITConfig.model_type):
        name, _ = renaming.rename_source_key(name)
    return any(re.match(rf"({pattern})\.", name) for pattern in UNQUANTIZED_MODULES)
