# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""What examples/emoji/compare_steps.py concludes."""

import sys
from pathlib import Path

import pytest
import torch


pytest.importorskip("datasets")
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "emoji"))

from compare_steps import fewest_alike, score_steps, sign_test


def outcomes(both: int, first_only: int, second_only: int) -> tuple[list[bool], list[bool]]:
    return (
        [True] * both + [True] * first_only + [False] * second_only,
        [True] * both + [False] * first_only + [True] * second_only,
    )


@pytest.mark.parametrize(
    ("first_only", "second_only", "probability"),
    [(0, 0, 1.0), (8, 1, 2 * (1 + 9) / 2**9), (1, 8, 2 * (1 + 9) / 2**9), (5, 5, 1.0), (6, 0, 2 / 2**6)],
)
def test_sign_test(first_only, second_only, probability):
    assert sign_test(*outcomes(100, first_only, second_only)) == pytest.approx(probability)


def test_fewest_stops_where_the_judge_tells_them_apart():
    most = [True] * 20
    hits = {25: most, 15: [True] * 18 + [False] * 2, 10: [True] * 12 + [False] * 8, 5: [True] * 19 + [False]}
    assert fewest_alike(hits) == 15  # 5 steps are alike by chance only
    assert fewest_alike({25: most}) == 25


def test_all_steps_paint_the_same_tokens_of_the_same_noise():
    calls = []

    class Pipeline:
        def generate_image_tokens(self, names, generator):
            return [torch.randint(100, (4,), generator=generator) for _ in names]

        def __call__(self, image_token_ids, num_inference_steps, generator):
            calls.append((num_inference_steps, torch.stack(image_token_ids), torch.randn(3, generator=generator)))
            return type("Output", (), {"images": [num_inference_steps] * len(image_token_ids)})

    class Judge:
        def look(self, pictures):
            return torch.tensor(pictures)

        def rank(self, looks, names):
            return torch.where(looks >= 10, 0, 7)

    hits = score_steps(Pipeline(), Judge(), ["cat", "dog"], [5, 10], range(2))
    assert hits == {5: [False] * 4, 10: [True] * 4}
    of_5, of_10 = ([call[1:] for call in calls if call[0] == steps] for steps in (5, 10))
    assert all(torch.equal(a, b) for pair in zip(of_5, of_10) for a, b in zip(*pair))
    assert not torch.equal(of_5[0][0], of_5[1][0])  # another seed, other tokens
