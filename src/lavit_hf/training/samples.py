# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Sample images at every evaluation, as a contact sheet in the run's folder and in TensorBoard."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor
from transformers import TrainerCallback

from ..visualization import image_grid, save_image


class SamplePictures(TrainerCallback):
    """
    Generates images at every evaluation and saves them as `samples/step-00000500.png` in `output_dir`.

    Args:
        draw (`Callable[[], Sequence[PIL.Image.Image]]`):
            Returns the images. Called by every process, with gradients disabled; those of the first are saved.
        columns (`int`):
            Number of images per row of the sheet.
    """

    def __init__(self, draw: Callable[[], Sequence[Image.Image]], columns: int):
        self.draw = draw
        self.columns = columns

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        was_training = model.training
        model.eval()
        with torch.no_grad():
            sheet = image_grid(self.draw(), self.columns)
        model.train(was_training)
        if state.is_world_process_zero:
            self._keep(sheet, args, state.global_step)

    def _keep(self, sheet: Image.Image, args, step: int) -> None:
        folder = Path(args.output_dir) / "samples"
        save_image(sheet, folder / f"step-{step:08d}.png")
        if "tensorboard" in args.report_to:
            from torch.utils.tensorboard import SummaryWriter

            with SummaryWriter(folder) as writer:
                writer.add_image("samples", pil_to_tensor(sheet), step)
