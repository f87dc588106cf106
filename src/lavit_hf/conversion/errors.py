# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The one error of the converter."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..lavit.untrusted_files import CheckpointError, describe_error, shorten


class ConversionError(ValueError):
    """An original checkpoint cannot be converted; the message names the file or tensor and says what to do."""

    def __init__(self, message: str):
        super().__init__(shorten(message))


@contextmanager
def conversion_errors(problem: str, passed: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """
    Turns whatever libraries raise on what they did not expect into a [`ConversionError`].

    Args:
        problem (`str`):
            What could not be done, with the name of the file or folder.
        passed (`tuple[type[Exception], ...]`, *optional*):
            Errors that have another reason, and stay what they are.
    """
    try:
        yield
    except (ConversionError, *passed):
        raise
    except CheckpointError as error:
        raise ConversionError(str(error)) from error
    except Exception as error:  # configs and tokenizers of strangers make libraries raise almost anything
        raise ConversionError(f"{problem} ({describe_error(error)})") from error
