# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Training: what stands between LaVIT's models and transformers' `Trainer`, accelerate and datasets."""

from ..lavit.library_noise import leave_out


# An encoder of timm has an attention of its own, if any, and a run file names that of all other parts.
leave_out(
    "transformers.models.timm_backbone.modeling_timm_backbone", "`attn_implementation='eager'` is not propagated"
)
leave_out("transformers.models.timm_wrapper.modeling_timm_wrapper", "`attn_implementation='eager'` is not propagated")
