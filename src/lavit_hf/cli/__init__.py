# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The `lavit` command line. Commands parse, call and print; heavy modules are imported when a command runs."""
