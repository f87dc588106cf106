# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""From image tokens to pixels: detokenizer, pipeline and its stages."""

from ..lavit.library_noise import leave_out


# diffusers imports bitsandbytes where it is installed, which then misses a package that nothing here needs.
leave_out("bitsandbytes.backends.cpu.ops", "Failed to load CPU gemm_4bit_forward from kernels-community")
# It warns of modules to be kept in fp32 also where a model has none.
leave_out("diffusers.models.modeling_utils", r"There are modules in \w+ that should be kept in float32: \[\]")
