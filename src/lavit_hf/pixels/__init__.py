# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""From image tokens to pixels: the detokenizer, the pipeline and its stages."""

from ..lavit.library_noise import leave_out


# diffusers imports bitsandbytes if it is installed, which then warns of a missing package that is not needed here.
leave_out("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward from kernels-community")
# It also warns about modules to keep in fp32 for models that have none.
leave_out("diffusers.models.modeling_utils", r"There are modules in \w+ that should be kept in float32: \[\]")
