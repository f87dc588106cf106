# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Parts for decoders of small images: latents on a grid of patches, and the condition as a map."""
