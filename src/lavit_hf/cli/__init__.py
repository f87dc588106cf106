# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The `lavit` command line: commands parse, call and print. What is heavy is imported when a command runs."""
