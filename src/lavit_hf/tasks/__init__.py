# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Code shared by the command line, page and server: finding and loading models, reading and generating images."""
