# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Warnings of libraries that a user of LaVIT can do nothing about. They are left out, and all others stay."""

import logging
import re


class LeaveOut(logging.Filter):
    """
    Leaves out some of a logger's messages.

    Args:
        pattern (`str`):
            Regular expression of how they begin.
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
    Leaves out messages of a library. Harmless to call again.

    Args:
        logger_name (`str`):
            The logger that the library writes them to.
        pattern (`str`):
            Regular expression of how they begin.
    """
    logging.getLogger(logger_name).addFilter(LeaveOut(pattern))


__all__ = ["leave_out"]
