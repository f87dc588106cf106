# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Ablations: measures the value of each part of the method, with chains of training and evaluation that differ in one
setting.

A plan (`plans`) defines the steps and the settings of each arm. Each step gets its own folder (`steps`), steps that
are not done yet are run (`running`), and their figures become a table and a plot (`reporting`).
"""
