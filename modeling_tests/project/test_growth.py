# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The exponent that benchmarks/growth.py tells."""

import math
import time

import pytest
import torch

from benchmark_scripts import load_benchmark
from lavit_hf import bundled_checkpoint


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


def test_growth_that_a_first_call_hides(growth):
    seconds = [1 + 1e-6 * size**2 for size in (1, 10, 100, 1000, 10_000)]
    assert growth.fit_exponent([1, 10, 100, 1000, 10_000], seconds) < 1
    assert growth.fit_growth([1, 10, 100, 1000, 10_000], seconds) == pytest.approx(1.7, abs=0.01)
    assert growth.fit_growth([1, 10, 100], [2, 20, 200]) == pytest.approx(1)


def test_what_is_steep_is_named(growth):
    exponents = {"time of captions": 1.0, "memory of captions": 1.2, "time of image ids": 1.051, "time of naming": 0.2}
    assert growth.find_steep(exponents) == ["memory of captions (1.20)", "time of image ids (1.05)"]


@pytest.mark.slow
def test_doors_answer_for_each_input(growth):
    doors = growth.Doors(bundled_checkpoint()).all()
    assert {name: len(door(3)) for name, door in doors.items()} == dict.fromkeys(doors, 3)


def test_memory_of_a_door(growth):
    _, memory = growth.measure_door(lambda count: (torch.ones(count, 10**6), time.sleep(0.2)), [1, 16])
    assert memory[1] == pytest.approx(16 * 4e6, rel=0.2)
