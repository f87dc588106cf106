# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The converter's error class."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..lavit.untrusted_files import CheckpointError, describe_error, shorten


class ConversionError(ValueError):
    """Raised if a checkpoint can't be converted. The message names the file or tensor and says what to do."""

    def __init__(self, message: str):
        super().__init__(shorten(message))


@contextmanager
def conversion_errors(problem: str, passed: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """
    Turns any error that libraries raise on unexpected input into a [`ConversionError`].

    Args:
        problem (`str`):
            Description of the problem, with the name of the file or folder.
        passed (`tuple[type[Exception], ...]`, *optional*):
            Errors with other causes, which are raised unchanged.
    """
    try:
        yield
    except (ConversionError, *passed):
        raise
    except CheckpointError as error:
        raise ConversionError(str(error)) from error
    except Exception as error:  # libraries can raise almost anything on untrusted configs and tokenizers
        raise ConversionError(f"{problem} ({describe_error(error)})") from error
