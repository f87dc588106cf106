# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The `lavit` command line. Stands beside `lavit_hf` so that `lavit --help` does not wait for torch."""
