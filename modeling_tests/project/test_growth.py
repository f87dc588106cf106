# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The exponent that benchmarks/growth.py tells."""

import math

import pytest

from benchmark_scripts import load_benchmark


@pytest.fixture(scope="module")
def growth():
    return load_benchmark("growth")


@pytest.mark.parametrize("exponent", [0, 1, 1.5, 2])
def test_exponent_of_a_power(growth, exponent):
    sizes = [1000, 2000, 4000, 8000]
    assert growth.fit_exponent(sizes, [3e-6 * size**exponent for size in sizes]) == pytest.approx(exponent)


def test_exponent_of_sorting_is_little_more_than_one(growth):
    seconds = [1e-6 * size * math.log(size) for size in growth.SIZES]
    assert growth.fit_exponent(growth.SIZES, seconds) == pytest.approx(1.12, abs=0.01)
