# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Hides those warnings of libraries that users of LaVIT can't do anything about."""

import logging
import re


class LeaveOut(logging.Filter):
    """
    Filters out some of a logger's messages.

    Args:
        pattern (`str`):
            Regular expression for the start of these messages.
    """

    def __init__(self, pattern: str):
        super().__init__()
        self.pattern = re.compile(pattern)

    def filter(self, record: logging.LogRecord) -> bool:
        return not self.pattern.match(record.getMessage())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LeaveOut) and self.pattern == other.pattern

    __hash__ = None


def leave_out(logger_name: str, pattern: str) -> None:
    """
    Filters out messages of a library. Can safely be called again.

    Args:
        logger_name (`str`):
            Name of the library's logger.
        pattern (`str`):
            Regular expression for the start of these messages.
    """
    logging.getLogger(logger_name).addFilter(LeaveOut(pattern))


__all__ = ["leave_out"]
