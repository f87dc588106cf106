# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""LaVIT's processor: turns text and images into model inputs, and generated ids back into text or images."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import chain
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import BatchFeature
from transformers.image_utils import ImageInput
from transformers.processing_utils import MultiModalData, ProcessingKwargs, ProcessorMixin, TextKwargs, Unpack
from transformers.tokenization_utils_base import LARGE_INTEGER, TextInput
from transformers.utils.chat_template_utils import _get_template_variables

from .atomic_saving import finish_interrupted_save
from .chats import check_chat, check_images, check_messages, escape_chat, is_outdated, make_chat_template
from .generation_lavit import agree_on_mode, check_generation_mode
from .image_loading import flatten_images
from .input_checks import argument_errors, as_list, check_nesting
from .modeling_layers import IGNORE_INDEX, find_image_slots
from .prompt_text import ESCAPE, Run, count_placeholders, remove_escapes, split_prompt
from .remote_code import ships_code
from .text_readers import text_reader
from .untrusted_files import naming_checkpoint


# How questions were phrased in training; `{}` is the question.
DEFAULT_QUESTION_TEMPLATE = "Question: {} Answer:"

# Supported arguments of the tokenizer. All others are refused, because they would have no effect.
_PAD_KWARGS = {"padding", "max_length", "pad_to_multiple_of", "padding_side", "return_attention_mask"}
_OTHER_TEXT_KWARGS = {
    "add_special_tokens",
    "return_mm_token_type_ids",
    "return_offsets_mapping",
    "return_tensors",
    "return_text_replacement_offsets",  # passed by `apply_chat_template`; offsets already refer to the passed text
    "sanitize_control_tokens",
    "split_special_tokens",
    "truncation",
    "verbose",
}

# Where the original cuts answers off, to remove further questions that the model generates.
_ANSWER_END = re.compile(r"\n|question:|Long answer:|,|\.")


class LaVITTextKwargs(TextKwargs, total=False):
    """
    split_special_tokens (`bool`, *optional*):
        Whether special tokens written in the text, such as `[IMG]`, `</s>` or `<code_17>`, are plain text. Defaults to
        the tokenizer's setting, which is `True` for tokenizers created by [`build_tokenizer`].
    """

    split_special_tokens: bool | None


class LaVITProcessorKwargs(ProcessingKwargs, total=False):
    """
    generation_mode (`str`, *optional*, defaults to `"text"`):
        What the model generates after the prompt: `"text"`, or `"image"`, which appends `[IMG]` to the prompt.
    output_labels (`bool`, *optional*, defaults to `False`):
        Whether to return labels for training.
    """

    text_kwargs: LaVITTextKwargs

    generation_mode: str
    output_labels: bool


# A token of a prompt: its id, and the span of its characters in the passed text, `(0, 0)` for image marks.
_Token = tuple[int, tuple[int, int]]


@ships_code
class LaVITProcessor(ProcessorMixin):
    r"""
    Processor of LaVIT (arXiv 2309.04669), which represents images as sequences of tokens in the language model's own
    vocabulary.

    In `input_ids`, an image is a slot, `[IMG]` directly followed by `[/IMG]`. The model fills the slot, because only
    the model knows how many patches are kept. In the text, `<image>` marks the positions of images; without it, images
    come first. A space on either side of a placeholder is part of the placeholder, and each piece of text between
    images is tokenized as a separate prompt, as in the original. Nothing else in a text is read as an image or a
    control token, unless it follows the escape character with which chat templates write them (U+F0002, removed from
    chats and questions), or `split_special_tokens=False` is passed. Processors are thread-safe: texts are tokenized by
    copies of the tokenizer, because calling a tokenizer can change its settings for all threads.

    Args:
        image_processor ([`LaVITImageProcessor`] or [`LaVITImageProcessorPil`]):
            The image processor.
        tokenizer (`PreTrainedTokenizerBase`):
            The tokenizer, as created by [`build_tokenizer`].
        chat_template (`str`, *optional*):
            Jinja template for chats. By default, chats are formatted as in LaVIT's training: a user's turn with text
            is a question, with its images first; a turn that contains only images asks for a caption; an answer ends
            with the end-of-sequence token, followed by the next turn.
        image_token (`str`, *optional*, defaults to `"<image>"`):
            The placeholder. It isn't a token, so choose another one to write about `<image>` in prompts. In chats,
            that isn't necessary.
        question_template (`str`, *optional*, defaults to `"Question: {} Answer:"`):
            How to phrase questions in chats and in [`~LaVITProcessor.format_question`]; `{}` is replaced by the
            question. It is stored in the repo, because checkpoints differ.

    Raises:
        `ValueError`: If the tokenizer has no image marks, the placeholder is empty, or `question_template` doesn't
            contain exactly one `{}`.

    Example:

    ```python
    >>> from lavit_hf import LaVITImageProcessor, LaVITProcessor, build_tokenizer, load_sentencepiece_tokenizer

    >>> text_tokenizer = load_sentencepiece_tokenizer("LaVIT-7B-v2/language_model")
    >>> processor = LaVITProcessor(LaVITImageProcessor(), build_tokenizer(text_tokenizer, codebook_size=16384))

    >>> question = processor.format_question("What is on the sofa?")
    >>> inputs = processor(images="examples/images/cat.jpg", text=question)
    >>> inputs.pixel_values.shape
    torch.Size([1, 3, 224, 224])
    >>> processor.decode(inputs.input_ids[0])
    '[IMG][/IMG] Question: What is on the sofa? Answer:'
    ```
    """

    valid_processor_kwargs = LaVITProcessorKwargs

    text_kwargs: ClassVar[dict[str, Any]] = {"padding": True, "return_tensors": "pt"}
    images_kwargs: ClassVar[dict[str, Any]] = {"return_tensors": "pt"}
    generation_mode = "text"
    output_labels = False

    def __init__(
        self,
        image_processor,
        tokenizer,
        chat_template: str | None = None,
        image_token: str = "<image>",
        question_template: str = DEFAULT_QUESTION_TEMPLATE,
    ):
        if not {"image_start_token", "image_end_token"} <= set(tokenizer.special_tokens_map):
            raise ValueError(
                f"The {type(tokenizer).__name__} has no image marks. Extend it with `build_tokenizer` first."
            )
        if not image_token:
            raise ValueError("`image_token` is empty, so it would match everywhere in a text.")
        if not isinstance(question_template, str) or question_template.count("{}") != 1:
            raise ValueError(
                f"`question_template` is {question_template!r}, but it must be a text with one `{{}}` in place of "
                "the question."
            )
        if chat_template is None or (isinstance(chat_template, str) and is_outdated(chat_template, image_token)):
            chat_template = make_chat_template(image_token, question_template)
        self.image_token = image_token
        self.question_template = question_template
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """As in transformers, but problems with the files raise a `ValueError` or an `OSError` that names them."""
        finish_interrupted_save(pretrained_model_name_or_path)
        with naming_checkpoint(pretrained_model_name_or_path, cls.__name__):
            return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @property
    def model_input_names(self) -> list[str]:
        # `Trainer` groups rows by the length of the first input, which is that of the ids.
        return sorted(super().model_input_names, key=lambda name: name not in self.tokenizer.model_input_names)

    @property
    def image_start_token_id(self) -> int:
        """Id of `[IMG]`."""
        return self.tokenizer.image_start_token_id

    @property
    def image_end_token_id(self) -> int:
        """Id of `[/IMG]`."""
        return self.tokenizer.image_end_token_id

    @property
    def image_token_id(self) -> int:
        """Id of `[IMG]`, which opens the slot of each image. `image_token` isn't a token, so it has no id."""
        return self.image_start_token_id

    @property
    def image_token_ids(self) -> list[int]:
        """Ids of a slot: `[IMG]` and `[/IMG]`."""
        return [self.image_start_token_id, self.image_end_token_id]

    @property
    def pad_token_id(self) -> int:
        """Id of the padding token."""
        return self.tokenizer.pad_token_id

    @property
    def eos_token_id(self) -> int | None:
        """Id of the end-of-sequence token."""
        return self.tokenizer.eos_token_id

    def __call__(
        self,
        images: ImageInput | str | list | None = None,
        text: TextInput | list[TextInput | None] | None = None,
        **kwargs: Unpack[LaVITProcessorKwargs],
    ) -> BatchFeature:
        """
        Prepares prompts and images as inputs of the model.

        Args:
            images (`ImageInput`, `str` or a list of them, flat or nested, *optional*):
                The images. A flat list is assigned to the texts according to their placeholders. Without placeholders,
                all images go to a single text, or one image to each text. A nested list contains one list per text,
                which can be empty or `None`. Can also be a column of a table of the `datasets` library.
            text (`str` or `list[str]`, *optional*):
                The prompts, as a list or a column. An empty prompt or `None` with an image asks for a caption.
            kwargs (*optional*):
                `generation_mode` and arguments of the tokenizer and the image processor; see [`LaVITProcessorKwargs`].
                By default, prompts are padded to the longest (`padding=True`), on the left. They are only truncated
                with `truncation=True`, which never removes images. `return_tensors` defaults to `"pt"`. No special
                tokens are added.

        Returns:
            [`BatchFeature`] with

            - **input_ids** (`torch.LongTensor` of shape `(batch_size, sequence_length)`).
            - **attention_mask** (`torch.LongTensor` of shape `(batch_size, sequence_length)`): Zero for padding.
            - **pixel_values** (`torch.FloatTensor` of shape `(num_images, 3, height, width)`): The images in order of
              appearance, if there are any.
            - **offset_mapping** (of shape `(batch_size, sequence_length, 2)`): Start and end of each token in the
              passed text, in characters, if `return_offsets_mapping=True`. Zeros for images.
            - **mm_token_type_ids** (of shape `(batch_size, sequence_length)`): One for the two marks of each slot, if
              `return_mm_token_type_ids=True`. Intended for serving software; the model itself doesn't take them.
            - **labels** (`torch.LongTensor` of shape `(batch_size, sequence_length)`): Training targets, if
              `output_labels=True`; see [`~LaVITProcessor.create_labels`].

        Raises:
            `ValueError`: If the numbers of placeholders and images differ, a prompt isn't valid Unicode or is empty
            and has no image, the mode is unknown, an argument would have no effect, or `max_length` is too small for
            the image slots.
        """
        check_generation_mode(kwargs.get("generation_mode", self.generation_mode))
        _check_no_other_media(kwargs)
        with argument_errors():
            kwargs = self._merge_kwargs(tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        _check_text_kwargs(kwargs["text_kwargs"])

        texts, images = _match_images_with_texts(as_list(text), as_list(images), self.image_token)
        prompts = self._build_prompts(
            texts, [len(sample) for sample in images], kwargs["generation_mode"], **kwargs["text_kwargs"]
        )
        data = self._pad(prompts, **kwargs["text_kwargs"])
        if kwargs["return_mm_token_type_ids"]:
            data["mm_token_type_ids"] = self.create_mm_token_type_ids(data["input_ids"])
        if kwargs["output_labels"]:
            data["labels"] = self.create_labels(data["input_ids"], data.get("attention_mask"))
        if flat_images := list(chain.from_iterable(images)):
            data.update(self.image_processor(flat_images, **kwargs["images_kwargs"]))
        return BatchFeature(data, tensor_type=kwargs["text_kwargs"].get("return_tensors"))

    def apply_chat_template(
        self, conversation: list[dict] | list[list[dict]], chat_template: str | None = None, **kwargs
    ) -> str | list[str] | torch.Tensor | BatchFeature:
        """
        Turns a chat into a prompt.

        Args:
            conversation (`list[dict]` or `list[list[dict]]`):
                The messages of a chat, or of a batch of chats, with the roles `"system"`, `"user"` and `"assistant"`.
                Their contents are strings, or lists of parts of type `"text"` and `"image"`. Nothing in their texts
                is read as an image or a control token, not even `<image>`.
            chat_template (`str`, *optional*):
                A template to use instead of the processor's own. The processor's settings `image_token`,
                `question_template` and `generation_mode` are passed to it as variables.
            kwargs (*optional*):
                As in transformers' processors: `tokenize`, `return_dict`, `return_assistant_tokens_mask`,
                `continue_final_message`, `processor_kwargs` and more. With `generation_mode="image"`, here or in
                `processor_kwargs`, the last turn describes the image to generate and isn't a question.

        Returns:
            `str` or `list[str]`: The prompts. With `tokenize=True`, their ids, or all inputs of the model if
            `return_dict=True` is also passed.

        Raises:
            `ValueError`: If there is no chat, a chat has no messages, a role or type is unknown, a part of type
            `"image"` contains no image, or two different modes are passed.
        """
        processor_kwargs = dict(kwargs.pop("processor_kwargs", None) or {})
        mode = agree_on_mode(
            generation_mode=kwargs.pop("generation_mode", None),
            processor_kwargs=processor_kwargs.pop("generation_mode", None),
        )
        if mode is not None:
            processor_kwargs["generation_mode"] = mode
        if processor_kwargs.get("split_special_tokens") is not False:
            kwargs.pop("sanitize_control_tokens", None)  # always the case here
        if kwargs.get("tokenize") and not (processor_kwargs.get("images") or kwargs.get("images")):
            for number, messages in enumerate(self._normalize_conversations(conversation)[0]):
                check_images(number, messages)
        settings = {
            "image_token": self.image_token,
            "question_template": self.question_template,
            "generation_mode": mode or self.generation_mode,
        }
        settings |= {name: ESCAPE + token for name, token in self._control_tokens.items()}
        known = _get_template_variables(self._resolve_chat_template(chat_template))
        kwargs = {name: value for name, value in settings.items() if name in known} | kwargs
        return super().apply_chat_template(conversation, chat_template, processor_kwargs=processor_kwargs, **kwargs)

    def _normalize_conversations(self, conversation) -> tuple[list, bool]:
        # Without these checks, `apply_chat_template` raises an `IndexError` or a `KeyError`, or writes "None".
        check_nesting(conversation, "The chat")
        check_messages(conversation)
        try:
            conversations, is_batched = super()._normalize_conversations(conversation)
        except TypeError as error:
            raise ValueError(str(error)) from error
        for number, messages in enumerate(conversations):
            check_chat(number, messages)
        return [escape_chat(messages, self.image_token) for messages in conversations], is_batched

    @property
    def _control_tokens(self) -> dict[str, str]:
        """Control tokens that chat templates can write, by their variable names."""
        tokens = self.tokenizer.special_tokens_map
        return {name: tokens[name] for name in ("bos_token", "eos_token") if name in tokens}

    def _build_prompts(
        self, texts: list[str], num_images: list[int], generation_mode: str, **text_kwargs
    ) -> list[list[_Token]]:
        """Tokenizes the pieces of text between the placeholders, and adds slots between or before them."""
        start, end = ((mark, (0, 0)) for mark in self.image_token_ids)
        closing = [start] if generation_mode == "image" else []
        max_length = self._get_max_length(**text_kwargs)
        prompts = []
        for number, (pieces, count) in enumerate(zip(self._tokenize_pieces(texts, **text_kwargs), num_images)):
            if not count and not any(pieces):
                raise ValueError(f"Prompt {number} is empty and has no image. Pass a text, an image or both.")
            num_marks = 2 * count + len(closing)
            if max_length is not None and num_marks > max_length:
                raise ValueError(
                    f"max_length={max_length} is less than the {num_marks} image marks of prompt {number}. Raise it."
                )
            if max_length is not None:
                pieces = _truncate(pieces, max_length - num_marks, self.tokenizer.truncation_side)
            prompt = [start, end] * (count - len(pieces) + 1) + pieces[0]
            for piece in pieces[1:]:
                prompt += [start, end, *piece]
            prompts.append(prompt + closing)
        return prompts

    def _tokenize_pieces(
        self,
        texts: list[str],
        split_special_tokens: bool | None = None,
        sanitize_control_tokens: bool | None = None,
        return_offsets_mapping: bool | None = None,
        **kwargs,
    ) -> Iterator[list[list[_Token]]]:
        """Yields the tokens of each text in pieces, each tokenized as a separate prompt."""
        controls = list(self._control_tokens.values())
        prompts = [split_prompt(text, self.image_token, controls) for text in texts]
        runs = [run for pieces in prompts for piece in pieces for run in piece if not run.is_control]
        if split_special_tokens is None or sanitize_control_tokens:  # then the template's own tokens are read
            split_special_tokens = self.tokenizer.split_special_tokens
        encoded = text_reader(self.tokenizer, split_special_tokens)(
            [run.text for run in runs] or [""],
            add_special_tokens=False,
            padding=False,
            truncation=False,
            split_special_tokens=split_special_tokens,
            sanitize_control_tokens=sanitize_control_tokens,
            return_offsets_mapping=return_offsets_mapping,
        )
        offsets = encoded.get("offset_mapping") or [[(0, 0)] * len(ids) for ids in encoded["input_ids"]]
        tokens = zip(encoded["input_ids"], offsets)
        for pieces in prompts:
            yield [[token for run in piece for token in self._locate_tokens(run, tokens)] for piece in pieces]

    def _locate_tokens(self, run: Run, tokens: Iterator[tuple[list[int], list[tuple[int, int]]]]) -> list[_Token]:
        """Returns the tokens of a run with their positions in the whole text. Text runs take the next of `tokens`."""
        if run.is_control:
            return [(self.tokenizer.convert_tokens_to_ids(run.text), tuple(run.places))]
        return [(id, run.locate(span)) for id, span in zip(*next(tokens))]

    def _get_max_length(
        self, truncation: bool | str | None = None, max_length: int | None = None, **kwargs
    ) -> int | None:
        """Number of tokens to truncate prompts to; `None` for no truncation."""
        if not truncation or truncation == "do_not_truncate":
            return None
        max_length = self.tokenizer.model_max_length if max_length is None else max_length
        if max_length > LARGE_INTEGER:
            raise ValueError("`truncation` needs a `max_length`: the tokenizer does not know the context length.")
        return max_length

    def _pad(
        self, prompts: list[list[_Token]], return_offsets_mapping: bool | None = None, **kwargs
    ) -> dict[str, list[list]]:
        pad_kwargs = {name: value for name, value in kwargs.items() if name in _PAD_KWARGS}
        if kwargs.get("truncation"):
            pad_kwargs["verbose"] = False  # avoids a warning that `max_length` has no effect
        data = dict(self.tokenizer.pad({"input_ids": [[id for id, _ in prompt] for prompt in prompts]}, **pad_kwargs))
        if return_offsets_mapping:  # ignored by `pad`
            side = pad_kwargs.get("padding_side") or self.tokenizer.padding_side
            data["offset_mapping"] = [
                _pad_spans([span for _, span in prompt], len(row), side)
                for prompt, row in zip(prompts, data["input_ids"])
            ]
        return data

    def create_mm_token_type_ids(self, input_ids: list) -> list[list[int]]:
        """
        Marks the positions of images. Marks outside a slot, such as the `[IMG]` at the end of a prompt for an image,
        count as text, so there are exactly two ones for each passed image.

        Args:
            input_ids (`list[list[int]]`):
                Ids of prompts, padded or not.

        Returns:
            `list[list[int]]`: For each id, one if it is a mark of a slot, zero otherwise.
        """
        opens = [find_image_slots(torch.as_tensor(row)[None], *self.image_token_ids)[0] for row in input_ids]
        return [(is_open | is_open.roll(1)).int().tolist() for is_open in opens]

    def create_labels(self, input_ids: list, attention_mask: list | None = None) -> list[list[int]]:
        """
        Creates labels for training. Each label other than -100 is a target, because `Trainer` divides the loss by the
        number of labels. To exclude more ids, such as those of a question, set their labels to -100.

        Args:
            input_ids (`list[list[int]]` or `torch.Tensor` of shape `(batch_size, sequence_length)`):
                Ids of prompts, padded or not.
            attention_mask (`list[list[int]]` or `torch.Tensor` of the same shape, *optional*):
                Zero for padding. By default, there is no padding.

        Returns:
            `list[list[int]]`: The ids, with -100 for padding, both marks of each slot, and the first id of each
            prompt, which can't be predicted.
        """
        masks = [[1] * len(row) for row in input_ids] if attention_mask is None else attention_mask
        labels = []
        for row, mask, is_slot in zip(input_ids, masks, self.create_mm_token_type_ids(input_ids)):
            ids, mask = torch.as_tensor(row), torch.as_tensor(mask)
            is_target = mask.bool() & (mask.cumsum(dim=0) > 1) & ~torch.tensor(is_slot).bool()
            labels.append(ids.masked_fill(~is_target, IGNORE_INDEX).tolist())
        return labels

    def _get_num_multimodal_tokens(self, image_sizes: list[tuple[int, int]] | None = None, **kwargs) -> MultiModalData:
        """
        Computes the number of placeholder tokens per image in `input_ids`, which is always two, the marks of a slot.
        How many embeddings the model inserts between the marks is only known once it has selected patches: between one
        and the `num_patches` of [`LaVITVisualTokenizerConfig`], which is what to reserve in a cache per image.

        Args:
            image_sizes (`list[tuple[int, int]]`, *optional*):
                Height and width of each image.

        Returns:
            `MultiModalData`: `num_image_tokens`, and `num_image_patches`, the rows of `pixel_values` per image.
        """
        if image_sizes is None:
            return MultiModalData()
        num_images = len(image_sizes)
        return MultiModalData(
            num_image_tokens=[len(self.image_token_ids)] * num_images, num_image_patches=[1] * num_images
        )

    def format_question(self, question: str) -> str:
        """
        Formats a question about an image with `question_template`. A chat with the question as the user's turn results
        in the same prompt.

        Args:
            question (`str`):
                The question. Surrounding whitespace is removed.

        Returns:
            `str`: `"Question: {question} Answer:"`, or the question in another `question_template`.
        """
        if not isinstance(question, str):
            raise ValueError(f"Pass one question as a string, not {type(question).__name__}.")
        return self.question_template.replace("{}", remove_escapes(question).strip())

    def post_process_multimodal_output(
        self, generated_outputs, skip_special_tokens: bool = True, generation_mode: str | None = None, **kwargs
    ) -> list[str] | list[Image.Image]:
        """
        Turns generated outputs into texts or images.

        Args:
            generated_outputs (`torch.Tensor`):
                For text, ids of shape `(batch_size, sequence_length)`. For images, decoded images of shape
                `(batch_size, 3, height, width)` with values in 0..1.
            skip_special_tokens (`bool`, *optional*, defaults to `True`):
                Whether to remove image marks, codes and control tokens from texts. Otherwise, images are written as
                tokens, which `tokenizer(text, split_special_tokens=False)` turns back into ids.
            generation_mode (`str`, *optional*):
                `"text"` (default) or `"image"`.
            kwargs (*optional*):
                For text, arguments of the tokenizer's `decode`.

        Returns:
            `list[str]` or `list[PIL.Image.Image]`: The texts or images.

        Raises:
            `ValueError`: If the mode is unknown, or ids are passed for images.
        """
        check_generation_mode(generation_mode or "text")
        if generation_mode == "image":
            return _to_pil(generated_outputs)
        return super().post_process_multimodal_output(
            generated_outputs, skip_special_tokens, generation_mode, **kwargs
        )

    def post_process_caption(self, texts: list[str]) -> list[str]:
        """
        Cuts captions at the first period, as the original does.

        Args:
            texts (`list[str]`):
                Decoded captions.

        Returns:
            `list[str]`: The captions, without the period and surrounding whitespace.
        """
        _check_is_list(texts)
        return [text.split(".")[0].strip() for text in texts]

    def post_process_answer(self, texts: list[str], lemmatize: bool = False) -> list[str]:
        """
        Cuts answers at the first newline, `question:`, `Long answer:`, comma or period, as the original does.

        Args:
            texts (`list[str]`):
                Decoded answers.
            lemmatize (`bool`, *optional*, defaults to `False`):
                Whether to reduce nouns and verbs to their base form for benchmark scores ("two dogs" to "two dog"),
                with spaCy's `en_core_web_sm`, as is common for published scores.

        Returns:
            `list[str]`: The answers, without surrounding whitespace.

        Raises:
            `ImportError`: If `lemmatize` is set and spaCy or its model isn't installed.
        """
        _check_is_list(texts)
        answers = [_ANSWER_END.split(text, maxsplit=1)[0].strip() for text in texts]
        return [lemmatize_answer(answer) for answer in answers] if lemmatize else answers

    def __repr__(self) -> str:
        # The tokenizer's own repr has a line for each code.
        parts = f"{self.image_processor!r}, {type(self.tokenizer).__name__} of {len(self.tokenizer)} tokens"
        return f"{type(self).__name__}({parts})"


def _check_is_list(texts: list[str]):
    if isinstance(texts, str):
        raise ValueError("Pass a list of texts, as returned by `post_process_image_text_to_text`, not one text.")


def _check_no_other_media(kwargs: dict[str, Any]):
    for name in ("videos", "audio"):
        if kwargs.get(name) is not None:
            raise ValueError(f"LaVIT reads text and images, so it cannot take `{name}`.")


def _check_text_kwargs(text_kwargs: dict[str, Any]):
    ignored = {name for name, value in text_kwargs.items() if value} - _PAD_KWARGS - _OTHER_TEXT_KWARGS
    if ignored:
        raise ValueError(f"LaVITProcessor does not support {', '.join(sorted(ignored))}. Use its tokenizer for that.")
    for name in ("max_length", "pad_to_multiple_of"):
        if text_kwargs.get(name) is not None and text_kwargs[name] < 1:
            raise ValueError(f"`{name}` must be above 0. Pass another number, or leave it out.")


def _match_images_with_texts(
    text: TextInput | list[TextInput | None] | None, images: Any, image_token: str
) -> tuple[list[str], list[list]]:
    """Returns one text and one list of images per prompt."""
    nested = isinstance(images, list | tuple) and any(isinstance(image, list | tuple | None) for image in images)
    if nested:
        images = [[] if sample is None else list(flatten_images(sample)) for sample in images]
    else:
        images = [] if images is None else list(flatten_images(images))
    texts = _as_texts(text, default_length=len(images))
    if not nested:
        images = _deal_out(images, [count_placeholders(text, image_token) for text in texts])
    if len(images) != len(texts):
        raise ValueError(
            f"There are {len(texts)} texts, but {len(images)} lists of images. Pass one list for each text."
        )
    for number, (text, sample) in enumerate(zip(texts, images)):
        count = count_placeholders(text, image_token)
        if count not in (0, len(sample)):
            raise ValueError(
                f"Prompt {number} has {len(sample)} images, but contains {image_token} {count} times. Write it once "
                "for each image, or leave it out to put the images first."
            )
    return texts, images


def _as_texts(text: TextInput | list[TextInput | None] | None, default_length: int) -> list[str]:
    if text is None:
        text = [None] * default_length
    texts = list(text) if isinstance(text, list | tuple) else [text]
    if not texts:
        raise ValueError("There is neither a text nor an image to process.")
    for number, sample in enumerate(texts):
        _check_text(number, sample)
    return [sample or "" for sample in texts]


def _check_text(number: int, text: Any):
    if text is None:
        return
    if not isinstance(text, str):
        raise ValueError(
            f"Prompt {number} is of type {type(text).__name__}. `text` must be a string or a list of strings, or of "
            "`None` for images without a prompt."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"Prompt {number} is not valid Unicode: character {error.start}, {text[error.start]!r}, is half of a "
            "surrogate pair. Was the text read in the wrong encoding?"
        ) from error


def _deal_out(images: list, num_placeholders: list[int]) -> list[list]:
    """Assigns a flat list of images to the texts."""
    if len(num_placeholders) == 1:
        return [images]
    if images and not any(num_placeholders):
        num_placeholders = [1] * len(num_placeholders)
    if sum(num_placeholders) != len(images):
        raise ValueError(
            f"{len(images)} images cannot be assigned to texts with {num_placeholders} image placeholders. Make the "
            "numbers equal, or pass a list of images for each text."
        )
    remaining = iter(images)
    return [[next(remaining) for _ in range(count)] for count in num_placeholders]


def _truncate(pieces: list[list[_Token]], num_tokens: int, side: str) -> list[list[_Token]]:
    """Removes tokens from one side of a text until its pieces have at most `num_tokens` in total."""
    kept = []
    for piece in pieces if side == "right" else reversed(pieces):
        room = min(num_tokens, len(piece))
        kept.append(piece[:room] if side == "right" else piece[len(piece) - room :])
        num_tokens -= room
    return kept if side == "right" else kept[::-1]


def _pad_spans(spans: list[tuple[int, int]], length: int, side: str) -> list[tuple[int, int]]:
    padding = [(0, 0)] * (length - len(spans))
    return padding + spans if side == "left" else spans + padding


def _to_pil(images: torch.Tensor) -> list[Image.Image]:
    if not (isinstance(images, torch.Tensor) and images.ndim == 4 and images.is_floating_point()):
        raise ValueError(
            "generation_mode='image' takes decoded images, a float tensor of shape (batch_size, 3, height, width) in "
            "[0, 1]. Turn generated ids into images first, with `LaVITPipeline`."
        )
    pixels = (images.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return [Image.fromarray(image) for image in pixels.permute(0, 2, 3, 1).cpu().numpy()]


def lemmatize_answer(text: str) -> str:
    """
    Reduces nouns and verbs of an answer to their base form with spaCy's `en_core_web_sm`, as is common for benchmark
    scores.

    Args:
        text (`str`):
            The answer, such as "two dogs".

    Returns:
        `str`: The answer in base form, such as "two dog".

    Raises:
        `ImportError`: If spaCy or its model isn't installed.
    """
    words = _load_spacy()(text)
    return "".join((word.lemma_ if word.pos_ in ("NOUN", "VERB") else word.text) + word.whitespace_ for word in words)


@cache
def _load_spacy():
    """Loads spaCy's small English model once."""
    try:
        import spacy

        return spacy.load("en_core_web_sm", exclude=["parser", "ner"])
    except (ImportError, OSError) as error:
        raise ImportError(
            "lemmatize=True needs spaCy and its English model. Run `pip install spacy` and `python -m spacy download "
            "en_core_web_sm`."
        ) from error


__all__ = ["LaVITProcessor", "LaVITProcessorKwargs"]
