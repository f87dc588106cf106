# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Chats: turns messages into prompts with the processor's chat template, and generates replies in batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import BatchFeature, StoppingCriteria, StoppingCriteriaList

from ..lavit.modeling_layers import pad_left
from ..tasks.reading import CAPTION, Task, answer_to
from ..tasks.sampling import is_greedy
from .errors import ApiError, bad_requests
from .fields import ChatFields, Message, TextPart
from .limits import Limits
from .model import ServedModel
from .pictures import RequestPictures
from .scheduler import Job, check_wanted


# Length of the longest mark at which a task truncates texts. The end of a partial text may be the start of a mark.
LONGEST_ENDS = {CAPTION.name: len("."), answer_to("").name: len("Long answer:")}

BEAM_SETTINGS = ("early_stopping", "length_penalty")
HALF_CHARACTER = "\N{REPLACEMENT CHARACTER}"  # stands for the first bytes of an incomplete character


@dataclass
class Chat:
    """
    A chat, ready for the model.

    Args:
        features (`BatchFeature`):
            The model's inputs.
        task (`Task`):
            The kind of text to generate: a caption or an answer.
        settings (`dict`):
            Arguments of `generate`.
        stops (`list[str]`):
            Texts that end the reply.
        seed (`int`):
            Random seed.
        is_streamed (`bool`):
            Whether to stream the reply.
    """

    features: BatchFeature
    task: Task
    settings: dict[str, Any]
    stops: list[str]
    seed: int
    is_streamed: bool

    @property
    def prompt_ids(self) -> torch.Tensor:
        """Token ids of the prompt, `(prompt_length,)`, with slots for images."""
        return self.features["input_ids"][0]


@dataclass(frozen=True)
class Reply:
    """
    A generated reply.

    Args:
        text (`str`):
            The reply.
        num_prompt_tokens (`int`):
            Length of the prompt in the language model, including the rows of images.
        num_new_tokens (`int`):
            Number of generated tokens.
        finish_reason (`str`):
            `"stop"` or `"length"`.
    """

    text: str
    num_prompt_tokens: int
    num_new_tokens: int
    finish_reason: str


def prepare_chat(fields: ChatFields, model: ServedModel, limits: Limits) -> Chat:
    """
    Prepares the model's inputs from a request.

    Args:
        fields (`ChatFields`):
            The request.
        model (`ServedModel`):
            The model, whose processor creates the prompt.
        limits (`Limits`):
            The limits.

    Raises:
        ApiError: If the chat is too long, an image cannot be read, or the chat template rejects the messages.
    """
    _check_sizes(fields.messages, limits)
    pictures = RequestPictures(limits)
    conversation = [_convert(number, message, pictures) for number, message in enumerate(fields.messages)]
    with bad_requests("messages"):
        features = model.processor.apply_chat_template(
            conversation, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
    task = _find_task(fields.messages)
    # Chosen here, as a reply is generated a second time if another one in its batch fails.
    seed = model.choose_seed(fields.seed)
    chat = Chat(features, task, dict(task.settings), fields.stop or [], seed, fields.stream)
    _take_length(chat, fields, model, limits)
    _take_sampling(chat.settings, fields)
    return chat


def find_kind(chat: Chat) -> tuple:
    """Returns the settings that chats in one batch must share."""
    return chat.task.name, *sorted(chat.settings.items())


def write_replies(jobs: Sequence[Job], model: ServedModel) -> list[Reply]:
    """
    Generates replies to a batch of chats of the same kind.

    Args:
        jobs (`Sequence[Job]`):
            Jobs with a [`Chat`] as inputs.
        model (`ServedModel`):
            The model.
    """
    chats = [job.inputs for job in jobs]
    inputs = _collate(chats, model)
    drafts = [_Draft(job, model) for job in jobs]
    outputs = model.language_model.generate(
        **inputs,
        **chats[0].settings,
        generator=[model.make_generator(chat.seed) for chat in chats],
        stopping_criteria=StoppingCriteriaList([_Watch(drafts, inputs["input_ids"].shape[1])]),
        return_dict_in_generate=True,
    )
    new_ids = outputs.sequences[:, inputs["input_ids"].shape[1] :]
    lengths = _count_prompt_tokens(outputs, inputs["attention_mask"])
    return [draft.finish(ids, length) for draft, ids, length in zip(drafts, new_ids, lengths, strict=True)]


class _Draft:
    """A reply while it is generated."""

    def __init__(self, job: Job, model: ServedModel):
        self.job = job
        self.chat: Chat = job.inputs
        self.processor = model.processor
        ends = model.language_model.generation_config.eos_token_id
        self.end_ids = torch.tensor(ends if isinstance(ends, list) else [-1 if ends is None else ends])
        self.num_ids: int | None = None  # set if it ends before generation does

    def read(self, ids: torch.Tensor) -> tuple[str, bool]:
        """Returns the text of ids, and whether it contains an end."""
        text = self.processor.post_process_image_text_to_text(ids[None])[0]
        cleaned = self.chat.task.clean(self.processor, [text])[0]
        found = [position for stop in self.chat.stops if (position := cleaned.find(stop)) >= 0]
        reply = cleaned[: min(found)] if found else cleaned
        return reply, bool(found) or len(cleaned) < len(text.strip())

    def grow(self, ids: torch.Tensor) -> bool:
        """Sends the part of the text that can no longer change. Returns true if the reply has ended."""
        if self.num_ids is not None:
            return True
        text, has_ended = self.read(ids)
        if has_ended:
            self.num_ids = len(ids)
        elif self.chat.is_streamed:
            ends = [LONGEST_ENDS[self.chat.task.name], *map(len, self.chat.stops)]
            certain = text.rstrip(HALF_CHARACTER)
            self.job.tell(certain[: max(0, len(certain) - max(ends) + 1)])
        return has_ended or self.job.is_left

    def finish(self, ids: torch.Tensor, num_prompt_tokens: int) -> Reply:
        ids = ids if self.num_ids is None else ids[: self.num_ids]
        ends = torch.isin(ids.cpu(), self.end_ids).nonzero()
        ids = ids[: int(ends[0]) + 1] if len(ends) else ids
        text, was_cut = self.read(ids)
        return Reply(text, num_prompt_tokens, len(ids), "stop" if len(ends) or was_cut else "length")


class _Watch(StoppingCriteria):
    """Ends replies one by one, and the batch if no client is waiting for it."""

    def __init__(self, drafts: Sequence[_Draft], prompt_length: int):
        self.drafts = drafts
        self.prompt_length = prompt_length

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs) -> torch.BoolTensor:
        check_wanted([draft.job for draft in self.drafts])
        has_ended = torch.zeros(len(input_ids), dtype=torch.bool)
        if len(input_ids) == len(self.drafts):  # with several beams, the text can change until the end
            new_ids = input_ids[:, self.prompt_length :].cpu()
            for number, draft in enumerate(self.drafts):
                has_ended[number] = draft.grow(new_ids[number])
        return has_ended.to(input_ids.device)


def _check_sizes(messages: Sequence[Message], limits: Limits) -> None:
    parts = [part for message in messages for part in message.content]
    for name, count in (("messages", len(messages)), ("parts", len(parts))):
        if count > limits.max_messages:
            raise ApiError(413, f"there are {count} {name}, but at most {limits.max_messages} are read.", "messages")
    if messages[-1].role != "user":
        raise ApiError(400, "the last message must come from the user.", "messages")
    with bad_requests("messages"):
        limits.inputs.check_text("".join(part.text for part in parts if isinstance(part, TextPart)))


def _convert(number: int, message: Message, pictures: RequestPictures) -> dict[str, Any]:
    """Converts a message to the format of chat templates."""
    content = []
    for place, part in enumerate(message.content):
        if isinstance(part, TextPart):
            content.append({"type": "text", "text": part.text})
        else:
            image = pictures.read_url(part.image_url.url, f"messages.{number}.content.{place}")
            content.append({"type": "image", "image": image})
    return {"role": message.role, "content": content}


def _find_task(messages: Sequence[Message]) -> Task:
    """Returns the task: a caption if the last message has no text, otherwise an answer."""
    texts = [part.text for part in messages[-1].content if isinstance(part, TextPart)]
    question = " ".join(texts).strip()
    return answer_to(question) if question else CAPTION


def _take_length(chat: Chat, fields: ChatFields, model: ServedModel, limits: Limits) -> None:
    """Sets the maximum length of the reply, so that it ends within the context."""
    settings = chat.settings
    default = settings.get("max_new_tokens", model.language_model.generation_config.max_new_tokens)
    most = min(_count_room(chat, default or 1, model), limits.max_new_tokens)
    wish = fields.max_new_tokens or default
    if wish is not None:
        settings["max_new_tokens"] = min(wish, most)
    if settings.get("min_new_tokens", 0) > settings.get("max_new_tokens", most):
        settings["min_new_tokens"] = settings["max_new_tokens"]


def _count_room(chat: Chat, default: int, model: ServedModel) -> float:
    """
    Returns how long a reply may be. How many patches of an image are kept is only known once the model reads it, so
    space for all of them is reserved, except from replies of the task's default length, which may fit even so.
    """
    model.check_length("chat", len(chat.prompt_ids), "messages")
    room = model.context - len(chat.prompt_ids)
    num_patches = model.language_model.config.visual_tokenizer_config.num_patches
    reserved = len(chat.features.get("pixel_values", ())) * num_patches
    return max(room - reserved, min(room, default))


def _take_sampling(settings: dict[str, Any], fields: ChatFields) -> None:
    """Overrides the task's sampling with that of the request."""
    temperature = 1.0 if fields.temperature is None else fields.temperature
    if is_greedy(temperature):
        settings["do_sample"] = False
    elif fields.temperature is not None or fields.top_p not in (None, 1):
        for name in BEAM_SETTINGS:
            settings.pop(name, None)
        top_p = 1.0 if fields.top_p is None else fields.top_p
        settings |= {"do_sample": True, "num_beams": 1, "temperature": temperature, "top_p": top_p}


def _collate(chats: Sequence[Chat], model: ServedModel) -> dict[str, torch.Tensor]:
    """Batches prompts, padded on the left, with all their images in order."""
    ids = [chat.prompt_ids for chat in chats]
    inputs = {
        "input_ids": pad_left(ids, model.processor.pad_token_id),
        "attention_mask": pad_left([torch.ones_like(row) for row in ids], 0),
    }
    images = [chat.features["pixel_values"] for chat in chats if "pixel_values" in chat.features]
    device, dtype = model.language_model.device, model.language_model.dtype
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    return inputs | ({"pixel_values": torch.cat(images).to(device, dtype)} if images else {})


def _count_prompt_tokens(outputs: Any, attention_mask: torch.Tensor) -> list[int]:
    """Returns the lengths of prompts including the rows of their images, which are taken from the cache."""
    filled = getattr(outputs.get("cache"), "cached_prompt", None)
    mask = attention_mask if filled is None or filled.attention_mask is None else filled.attention_mask
    return mask[:: len(mask) // len(attention_mask)].sum(dim=1).tolist()


__all__ = ["Chat", "Reply", "find_kind", "prepare_chat", "write_replies"]
