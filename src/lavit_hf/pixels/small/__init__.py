# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What only decoders of small images need: latents on the grid of patches, and the condition as a map."""
