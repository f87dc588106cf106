# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""How benchmarks are timed and set beside each other."""

import pytest

from benchmark_scripts import load_benchmark


@pytest.fixture
def ticks():
    """A clock that only work moves."""
    return [0.0]


def work(ticks, order, name, seconds):
    durations = iter(seconds)

    def run():
        order.append(name)
        ticks[0] += next(durations)

    return run


def test_runs_are_in_turn_and_the_first_is_not_counted(ticks):
    order = []
    functions = {name: work(ticks, order, name, seconds) for name, seconds in {"a": (9, 1, 3), "b": (9, 2, 5)}.items()}
    timing = load_benchmark("timing")
    assert timing.alternating_seconds(functions, 2, lambda: ticks[0]) == {"a": [1, 3], "b": [2, 5]}
    assert order == ["a", "b"] * 3


def test_row_of_the_table(monkeypatch):
    summary = load_benchmark("summary")
    runs = {"ours": [1.0, 2.0, 4.0, 2.0, 2.0], "peer": [2.0, 3.0, 2.0, 4.0, 5.0]}
    monkeypatch.setattr(summary, "alternating_seconds", lambda functions, repeats: runs)
    row = summary.Work("reading", None, None, "the other", bound=0.5, formula="weights / rate").row(5)
    ratios = "0.50 / 2.00 / 2.50"  # pair by pair: 2, 1.5, 0.5, 2, 2.5
    assert row == ("reading", "2 s", "3 s (the other)", ratios, "25%", "weights / rate")


@pytest.mark.parametrize(("seconds", "shown"), [(0.00123456, "1.23 ms"), (0.5, "500 ms"), (12.3456, "12.3 s")])
def test_seconds_are_shown_in_a_fit_unit(seconds, shown):
    assert load_benchmark("summary").show_seconds(seconds) == shown
