# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
from .answer_scores import normalize_answer as normalize_answer
from .answer_scores import vqa_accuracy as vqa_accuracy
from .caption_scores import score_captions as score_captions
from .options import EvaluationOptions as EvaluationOptions
from .runs import evaluate as evaluate
