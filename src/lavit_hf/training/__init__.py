# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Training: integration of LaVIT's models with transformers' `Trainer`, accelerate and datasets."""

from ..lavit.library_noise import leave_out


# timm encoders use their own attention, if any; the setting in a run file is for all other parts.
for kind in ("backbone", "wrapper"):
    leave_out(
        f"transformers.models.timm_{kind}.modeling_timm_{kind}", "`attn_implementation='eager'` is not propagated"
    )
# The visual tokenizer's configuration contains that of its detokenizer, which a language model does not use.
leave_out(
    "transformers.modeling_utils", r"We set the attention implementation for the sub-config `\S+detokenizer_config`"
)
# The special tokens of the run's text tokenizer are the right ones.
leave_out("transformers.trainer_utils", "The tokenizer has new PAD/BOS/EOS tokens")
# A pixel decoder is trained and saved without the rest of its pipeline.
leave_out("diffusers.pipelines.pipeline_utils", r"self\.processor=None of type .* cannot be saved")
