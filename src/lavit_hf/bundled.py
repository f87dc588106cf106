# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The bundled checkpoint: a small LaVIT trained on emoji, which works offline."""

from pathlib import Path


BUNDLED_CHECKPOINT = "lavit-emoji"


def bundled_checkpoint() -> str:
    """
    Returns the path of the bundled checkpoint, a repo that can be loaded with every `from_pretrained` of this package,
    of transformers and of diffusers.

    Returns:
        `str`: The path of the checkpoint's folder.

    Raises:
        FileNotFoundError: If the package was installed without it.

    Example:

    ```python
    >>> from lavit_hf import LaVITPipeline, bundled_checkpoint

    >>> pipeline = LaVITPipeline.from_pretrained(bundled_checkpoint())
    >>> pipeline("red apple").images[0]
    ```
    """
    folder = Path(__file__).parent / "checkpoints" / BUNDLED_CHECKPOINT
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"the checkpoint {BUNDLED_CHECKPOINT} is not part of this installation ({folder}). Install the released "
            "package, or build the checkpoint with `make checkpoint`."
        )
    return str(folder)


__all__ = ["BUNDLED_CHECKPOINT", "bundled_checkpoint"]
