# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Training: what stands between LaVIT's models and transformers' `Trainer`, accelerate and datasets."""

from ..lavit.library_noise import leave_out


# An encoder of timm has an attention of its own, if any, and a run file names that of all other parts.
for kind in ("backbone", "wrapper"):
    leave_out(
        f"transformers.models.timm_{kind}.modeling_timm_{kind}", "`attn_implementation='eager'` is not propagated"
    )
# The visual tokenizer's configuration holds that of its detokenizer, which a language model does without.
leave_out(
    "transformers.modeling_utils", r"We set the attention implementation for the sub-config `\S+detokenizer_config`"
)
# A run names its text tokenizer, whose special tokens hold.
leave_out("transformers.trainer_utils", "The tokenizer has new PAD/BOS/EOS tokens")
# A pixel decoder is trained and saved without the rest of its pipeline.
leave_out("diffusers.pipelines.pipeline_utils", r"self\.processor=None of type .* cannot be saved")
