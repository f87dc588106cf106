# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
from .convert import convert_checkpoint as convert_checkpoint
from .errors import ConversionError as ConversionError
