# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LaVIT for lmms-eval, which imports this module through the entry point `lmms_eval.models`."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest
from lmms_eval.utils import Collator
from PIL import Image
from tqdm import tqdm
from transformers import BatchFeature

from .bundled import BUNDLED_CHECKPOINT
from .lavit.generation_lavit import SAMPLING_SETTINGS, allowed_tokens
from .tasks.loading import load_language_model, load_processor
from .tasks.options import DType, ModelOptions
from .tasks.requests import find_model


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prompt:
    """
    A request.

    Args:
        text (`str`):
            The task's text.
        images (`list[Image.Image]`):
            The images.
        wish (`dict` or `str`):
            Generation settings, or the text to score.
    """

    text: str
    images: list[Image.Image]
    wish: dict[str, Any] | str


class LaVIT(lmms):
    """
    LaVIT for lmms-eval. A prompt is exactly the task's text, with images first unless `<image>` marks their positions.

    Args:
        pretrained (`str`, *optional*, defaults to `"lavit-emoji"`):
            Path or Hub id of a model or an adapter. The default is the bundled checkpoint.
        device (`str`, *optional*, defaults to `"auto"`):
            Name of a torch device. `"auto"` uses an accelerator if there is one. With several processes, accelerate
            assigns the devices.
        dtype (`str`, *optional*, defaults to `"auto"`):
            `"float32"`, `"bfloat16"` or `"float16"`; `"auto"` is that of the checkpoint, or float32 if
            the CPU is much faster in it.
        batch_size (`int`, *optional*, defaults to 1):
            Number of prompts per batch in each process.

    Raises:
        ValueError: If the dtype is unknown, or the batch size isn't a number above 0.
        Failure: If the model or the device doesn't exist.
    """

    def __init__(
        self,
        pretrained: str = BUNDLED_CHECKPOINT,
        device: str = "auto",
        dtype: str = "auto",
        batch_size: int | str = 1,
    ):
        super().__init__()
        self.batch_size = _read_batch_size(batch_size)
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        options = ModelOptions(
            model=None if pretrained == BUNDLED_CHECKPOINT else pretrained,
            device=device if self.world_size == 1 else str(self.accelerator.device),
            dtype=_read_dtype(dtype),
        )
        repo = find_model(options)
        self.processor = load_processor(repo, options)
        self.model = load_language_model(repo, options)
        self.device = self.model.device  # kept separately, because lmms-eval deletes the model at the end

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """
        Generates texts.

        Args:
            requests (`list[Instance]`):
                Prompts with settings: arguments of `generate`, and `until`, the strings at which to cut texts off.
                Other settings default to the model's own, but sampling requires `do_sample` or a temperature above 0.

        Returns:
            `list[str]`: One text per request.
        """
        ignored = {name for request in requests for name in request.args[1]} - {"until", *self._known_settings}
        if ignored:
            logger.warning(f"lavit_hf ignores {', '.join(sorted(ignored))}: generate has no such argument.")
        return self._run_in_batches(self._write, requests, grouping=True)

    def loglikelihood(self, requests: list[Instance]) -> list[GenerationResult]:
        """
        Scores texts.

        Args:
            requests (`list[Instance]`):
                Prompts with the texts that follow, or functions that extract these from the documents.

        Returns:
            `list[GenerationResult]`: For each request, the sum of the log-probabilities, and whether the text equals
            the model's greedy output. For choices, the sum is negated, because lmms-eval picks the smallest value.
        """
        results = []
        for request, (total, is_greedy) in zip(requests, self._run_in_batches(self._score, requests)):
            is_choice = isinstance(request.args[1], str)
            # lmms-eval 0.7 turns a bare pair into a string.
            results.append(GenerationResult((-total if is_choice else total, is_greedy)))
        return results

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Raises a `NotImplementedError`: tasks with several rounds aren't supported."""
        tasks = ", ".join(sorted({request.task_name for request in requests}))
        raise NotImplementedError(
            f"lavit_hf answers one prompt at a time, but these tasks have several rounds: {tasks}."
        )

    @property
    def _known_settings(self) -> dict[str, Any]:
        return vars(self.model.generation_config)

    def _run_in_batches(
        self, run: Callable[[list[Prompt]], list], requests: list[Instance], grouping: bool = False
    ) -> list:
        """Returns the results in order. Runs long prompts first; with `grouping`, each batch has the same settings."""
        batches = Collator([request.args for request in requests], lambda args: -len(args[0]), grouping=grouping)
        results = []
        with tqdm(total=len(requests), desc="lavit_hf", disable=self.rank != 0) as bar:
            for batch in batches.get_batched(self.batch_size):
                results += run([self._read_request(*arguments) for arguments in batch])
                bar.update(len(batch))
        return batches.get_original(results)

    def _read_request(
        self,
        text: str,
        wish: dict[str, Any] | str | Callable[[dict], str],
        doc_to_visual: Callable[[dict], Sequence | None],
        doc_id: int,
        task: str,
        split: str,
    ) -> Prompt:
        document = self.task_dict[task][split][doc_id]
        images = list(doc_to_visual(document) or [])
        for image in images:
            if not isinstance(image, Image.Image):
                raise ValueError(
                    f"document {doc_id} of {task} holds {type(image).__name__}, but LaVIT reads images only."
                )
        return Prompt(text, images, wish(document) if callable(wish) else wish)

    def _prepare(self, texts: list[str], prompts: list[Prompt], **kwargs) -> BatchFeature:
        inputs = self.processor(images=[prompt.images for prompt in prompts], text=texts, **kwargs)
        return inputs.to(self.device, self.model.dtype)

    def _write(self, prompts: list[Prompt]) -> list[str]:
        inputs = self._prepare([prompt.text for prompt in prompts], prompts)
        wish = prompts[0].wish
        ids = self.model.generate(**inputs, **self._choose_settings(wish))[:, inputs["input_ids"].shape[1] :]
        return [_cut(text, wish.get("until")) for text in self.processor.post_process_image_text_to_text(ids)]

    def _choose_settings(self, wish: dict[str, Any]) -> dict[str, Any]:
        """Returns the settings for `generate`."""
        settings = {name: value for name, value in wish.items() if name in self._known_settings and value is not None}
        temperature = settings.get("temperature")
        if settings.get("do_sample", temperature is not None) and temperature != 0:
            return settings | {"do_sample": True}
        return {name: value for name, value in settings.items() if name not in SAMPLING_SETTINGS} | {
            "do_sample": False
        }

    @torch.inference_mode()
    def _score(self, prompts: list[Prompt]) -> list[tuple[float, bool]]:
        """Returns, for each prompt, the sum of the log-probabilities and whether each token is the most likely one."""
        texts = [_append(prompt) for prompt in prompts]
        inputs = self._prepare(texts, prompts, return_offsets_mapping=True)
        starts = torch.tensor([[len(prompt.text)] for prompt in prompts], device=self.device)
        is_scored = inputs.pop("offset_mapping")[..., 1] > starts  # excludes padding and images, which end at 0
        length = int(is_scored.sum(dim=1).max())
        logits = self.model(**inputs, logits_to_keep=length + 1).logits[:, :-1].float()
        ids, is_scored = (row[:, row.shape[1] - length :] for row in (inputs["input_ids"], is_scored))
        log_probs = logits.log_softmax(dim=-1).gather(2, ids[..., None]).squeeze(2)
        allowed = allowed_tokens(self.model.config, "text", strict=True).to(self.device)
        is_likeliest = logits.masked_fill(~allowed, -torch.inf).argmax(dim=-1) == ids
        totals = log_probs.masked_fill(~is_scored, 0).sum(dim=1)
        return list(zip(totals.tolist(), (is_likeliest | ~is_scored).all(dim=1).tolist()))


def _append(prompt: Prompt) -> str:
    """Appends the text to score to the prompt. If the prompt has no text, leading whitespace is removed."""
    if not prompt.text and not prompt.images:
        raise ValueError("nothing precedes the text to score. The task needs a prompt or an image.")
    return prompt.text + (prompt.wish if prompt.text else prompt.wish.lstrip())


def _cut(text: str, until: str | list[str] | None) -> str:
    """Cuts a text off at the first of some strings."""
    for end in [until] if isinstance(until, str) else until or []:
        text = text.split(end)[0] if end else text
    return text.strip()


def _read_batch_size(batch_size: int | str) -> int:
    if not str(batch_size).isdecimal() or int(batch_size) == 0:
        raise ValueError(f"batch_size is {batch_size!r}, but lavit_hf needs a number above 0.")
    return int(batch_size)


def _read_dtype(name: str) -> DType:
    if name not in DType.__members__:
        raise ValueError(f"unknown dtype {name!r}. Choose one of {', '.join(DType.__members__)}.")
    return DType[name]


MANIFEST = ModelManifest(model_id="lavit_hf", simple_class_path=f"{LaVIT.__module__}.{LaVIT.__name__}")
