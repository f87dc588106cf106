# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Ablations: what each part of the method is worth, as chains of trainings and measurements that differ in one setting.

A plan (`plans`) says which steps there are and what the arms set; it becomes folders of steps (`steps`) that are run
where they have not been (`running`), and their figures become a table and a plot (`reporting`).
"""
