# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit serve`, asked by OpenAI's own client: it says and paints what the model does, and refuses with a status."""

import asyncio
import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from lavit_hf.cli.app import app
from lavit_hf.tasks.options import DType, ModelOptions
from lavit_hf.tasks.reading import CAPTION, QUESTION_SETTINGS, answer_to


pytest.importorskip("openai", reason="openai is not installed: pip install '.[dev]'")
pytest.importorskip("fastapi", reason="fastapi is not installed: pip install '.[serve]'")

import openai

from lavit_hf.server import Limits
from lavit_hf.server.app import build_app
from lavit_hf.server.chat import Chat, _Draft, prepare_chat, write_replies
from lavit_hf.server.errors import ApiError
from lavit_hf.server.fields import ChatFields, PaintFields
from lavit_hf.server.model import ServedModel, load_served_model
from lavit_hf.server.painting import _make_generators, prepare_painting
from lavit_hf.server.painting import paint as write_pictures
from lavit_hf.server.scheduler import Job
from lavit_hf.server.service import Service
from lavit_hf.server.serving import make_server
from lavit_hf.tasks.addresses import announce, claim_port
from lavit_hf.tasks.failures import Failure
from lavit_hf.tasks.limits import InputLimits


QUESTION = "What is on it?"
STEPS = {"num_inference_steps": 2}
LIMITS = Limits(
    InputLimits(text_characters=2000, pictures=3), max_body_bytes=2**20, max_batch_pixels=2**20, max_steps=1000
)


@pytest.fixture(scope="module")
def model(repos) -> ServedModel:
    # In fp32, as otherwise what is batched with what decides between two nearly equal ids of random weights.
    model = load_served_model(ModelOptions(str(repos["highres"]), dtype=DType.float32))
    model.language_model.visual_tokenizer.config.selection = "threshold"  # the released models draw
    return model


@contextmanager
def serving(load, limits: Limits = LIMITS, **settings):
    """A server on the loopback interface, with a client of its own."""
    service = Service(load, limits, **settings)
    port = claim_port("127.0.0.1", 0)
    server = make_server(service, "127.0.0.1", port)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: server.started)
        yield url, service, openai.OpenAI(base_url=f"{url}/v1", api_key="key", max_retries=0)
    finally:
        server.should_exit = True
        thread.join(60)
    assert not thread.is_alive()


def wait_until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def served(model):
    with serving(lambda: model) as (url, service, client):
        wait_until(lambda: service.status == "ok")
        yield url, service, client


@pytest.fixture
def url(served) -> str:
    return served[0]


@pytest.fixture
def service(served) -> Service:
    return served[1]


@pytest.fixture
def client(served):
    return served[2]


@pytest.fixture(scope="module")
def pictures(golden) -> list[Path]:
    return golden.image_paths


def data_url(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def user(*parts) -> dict:
    """A message out of texts and paths of images."""
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": data_url(part)}}
        for part in parts
    ]
    return {"role": "user", "content": content}


def ask(client, *messages, **settings):
    return client.chat.completions.create(model="highres", messages=list(messages), **settings)


def expect_text(model: ServedModel, *messages, **settings) -> str:
    """What the model says by the processor's own template and `generate`."""
    conversation = []
    for message in messages:
        parts = message["content"]
        if not isinstance(parts, str):
            parts = [
                part
                if part["type"] == "text"
                else {"type": "image", "image": decode(part["image_url"]["url"].partition(",")[2])}
                for part in parts
            ]
        conversation.append({"role": message["role"], "content": parts})
    inputs = model.processor.apply_chat_template(
        conversation, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    last = conversation[-1]["content"]
    has_text = isinstance(last, str) or any(part["type"] == "text" for part in last)
    task = answer_to(QUESTION) if has_text else CAPTION
    ids = model.language_model.generate(**inputs, **task.settings | settings)[:, inputs["input_ids"].shape[1] :]
    return task.clean(model.processor, model.processor.post_process_image_text_to_text(ids))[0]


def decode(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data)))


def paint(client, prompt: str, **settings) -> list[Image.Image]:
    response = client.images.generate(prompt=prompt, **settings)
    return [decode(image.b64_json) for image in response.data]


def expect_picture(model: ServedModel, prompt: str, seed: int, images=None, **settings) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    return model.pipeline(prompt, images=images, generator=generator, **STEPS | settings).images[0]


def difference(first: Image.Image, second: Image.Image) -> int:
    return int(np.abs(np.asarray(first, dtype=int) - np.asarray(second, dtype=int)).max())


def post(url: str, path: str, body, **settings) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json", **settings.pop("headers", {})}
    return httpx.post(f"{url}/v1/{path}", content=content, headers=headers, timeout=60, **settings)


class TestChat:
    def test_caption_is_the_models(self, client, model, pictures):
        reply = ask(client, user(pictures[0]))
        assert reply.choices[0].message.content == expect_text(model, user(pictures[0]))
        assert (reply.object, reply.model) == ("chat.completion", "highres")

    def test_caption_is_the_commands(self, client, model, repos, pictures, monkeypatch):
        monkeypatch.setattr(model.language_model.visual_tokenizer.config, "selection", "sample")
        options = ["--model", str(repos["highres"]), "--dtype", "float32", "--seed", "5", "--json"]
        expected = json.loads(CliRunner().invoke(app, ["caption", str(pictures[1]), *options]).stdout)["caption"]
        with ThreadPoolExecutor(3) as pool:
            replies = list(pool.map(lambda seed: ask(client, user(pictures[1]), seed=seed), (5, 4, 5)))
        assert [replies[number].choices[0].message.content for number in (0, 2)] == [expected] * 2

    def test_answer_is_the_models(self, client, model, pictures):
        for message in (user(pictures[0], QUESTION), user("Which is larger?", *pictures[:2])):
            reply = ask(client, message)
            assert reply.choices[0].message.content == expect_text(model, message)

    def test_several_turns(self, client, model, pictures):
        turns = [
            user(pictures[0], QUESTION),
            {"role": "assistant", "content": "a cat"},
            user(pictures[1], "And here?"),
        ]
        assert ask(client, *turns).choices[0].message.content == expect_text(model, *turns)

    @pytest.mark.parametrize("as_sent", [lambda message: message, lambda message: message.model_dump()])
    def test_replies_are_passed_back(self, client, model, pictures, as_sent):
        """As OpenAI's documentation does it, with the fields that are null."""
        turns = [user(pictures[0], QUESTION)]
        message = ask(client, *turns).choices[0].message
        turns += [as_sent(message), user("And what else?")]
        expected = expect_text(model, turns[0], {"role": "assistant", "content": message.content}, turns[2])
        assert ask(client, *turns).choices[0].message.content == expected

    def test_text_alone(self, client, model):
        message = {"role": "user", "content": "What is a cat?"}
        assert ask(client, message).choices[0].message.content == expect_text(model, message)

    def test_control_tokens_of_users_are_text(self, client, model, pictures):
        message = user(pictures[0], "[IMG] </s> <code_3>?")
        assert ask(client, message).choices[0].message.content == expect_text(model, message)

    @pytest.mark.slow
    def test_those_who_wait_share_a_batch(self, client, model, service, pictures, monkeypatch):
        sizes, generate = [], model.language_model.generate

        def count(**inputs):
            sizes.append(len(inputs["input_ids"]))
            return generate(**inputs)

        monkeypatch.setattr(model.language_model, "generate", count)
        messages = [user(picture) for picture in (*pictures, *pictures)]
        with ThreadPoolExecutor(len(messages)) as pool:
            replies = list(pool.map(lambda message: ask(client, message), messages))
        monkeypatch.undo()
        expected = [expect_text(model, message) for message in messages]
        assert [reply.choices[0].message.content for reply in replies] == expected
        assert sum(sizes) == len(messages)
        assert max(sizes) > 1

    def test_usage(self, client, model, pictures):
        usage = ask(client, user(pictures[0]), max_tokens=3).usage
        pixel_values = model.processor(images=decode(data_url(pictures[0]).partition(",")[2])).pixel_values
        rows = model.language_model.get_image_features(pixel_values).pooler_output[0]
        assert usage.prompt_tokens == len(rows) + 2  # with the marks
        assert 0 < usage.completion_tokens <= 3
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
        text = user("a b c")
        ids = model.processor.apply_chat_template(
            [{"role": "user", "content": "a b c"}], add_generation_prompt=True, tokenize=True, return_dict=True
        ).input_ids[0]
        assert ask(client, text).usage.prompt_tokens == len(ids)

    def test_length(self, client, model, pictures):
        reply = ask(client, user(pictures[0]), max_completion_tokens=2)
        assert reply.choices[0].finish_reason == "length"
        assert reply.usage.completion_tokens == 2
        expected = expect_text(model, user(pictures[0]), max_new_tokens=2, min_new_tokens=2)
        assert reply.choices[0].message.content == expected

    @pytest.mark.parametrize("parts", [[], [QUESTION]])
    def test_length_ends_within_the_context(self, model, pictures, parts):
        """Whatever the images keep of their patches; but not before the task's own length, which may fit even so."""
        fields, language_model = {"messages": [user(*pictures[:2], *parts)]}, model.language_model
        visual, own = language_model.config.visual_tokenizer_config, language_model.generation_config
        default = QUESTION_SETTINGS["max_new_tokens"] if parts else own.max_new_tokens
        num_ids = len(prepare_chat(ChatFields(**fields), model, LIMITS).prompt_ids)
        num_rows = 2 * visual.num_patches

        def length(context: int | None, **settings) -> int:
            text = SimpleNamespace(**({} if context is None else {"max_position_embeddings": context}))
            config = SimpleNamespace(text_config=text, visual_tokenizer_config=visual)
            served = replace(model, language_model=SimpleNamespace(config=config, generation_config=own))
            return prepare_chat(ChatFields(**fields, **settings), served, LIMITS).settings["max_new_tokens"]

        assert length(num_ids + num_rows + 100, max_tokens=500) == 100
        assert length(num_ids + num_rows, max_tokens=500) == default
        assert length(num_ids + 1) == length(num_ids + 1, max_tokens=500) == 1
        assert length(num_ids + num_rows) == length(None) == default
        assert length(None, max_tokens=500) == 500
        with pytest.raises(ApiError, match="at most") as error:
            length(num_ids)
        assert (error.value.param, error.value.code) == ("messages", "context_length_exceeded")

    @pytest.mark.parametrize("is_streamed", [False, True])
    def test_images_that_exceed_the_context(self, client, model, pictures, monkeypatch, is_streamed):
        """Which shows only once the model has read them."""
        chat = prepare_chat(ChatFields(messages=[user(*pictures[:2])]), model, LIMITS)
        config = model.language_model.config.text_config
        monkeypatch.setattr(config, "max_position_embeddings", len(chat.prompt_ids) + 1)
        with pytest.raises(openai.BadRequestError, match="pass fewer images") as error:
            ask(client, user(*pictures[:2]), stream=is_streamed)
        assert (error.value.param, error.value.code) == ("messages", "context_length_exceeded")

    def test_generated_again_the_reply_is_the_same(self, model, pictures):
        """As if another one in its batch fails; its beginning may have been sent already."""
        chat = prepare_chat(ChatFields(messages=[user(pictures[0])], temperature=1.0), model, LIMITS)
        first, second = (write_replies([Job(chat, None, print)], model)[0].text for _ in range(2))
        assert first == second

    def test_defaults_may_be_spelled_out(self, client, model, pictures):
        defaults = {"logprobs": False, "response_format": {"type": "text"}, "n": 1}
        reply = ask(client, user(pictures[0]), **defaults, frequency_penalty=0, presence_penalty=0.0)
        assert reply.choices[0].message.content == expect_text(model, user(pictures[0]))

    def test_fields_that_change_nothing(self, client, model, pictures):
        names = {"user": "a", "safety_identifier": "b", "prompt_cache_key": "c", "metadata": {"run": "1"}}
        reply = ask(client, user(pictures[0]), **names, store=False, service_tier="auto", parallel_tool_calls=True)
        assert reply.choices[0].message.content == expect_text(model, user(pictures[0]))

    def test_stop(self, client, model, pictures):
        text = expect_text(model, user(pictures[0]))
        stop = text[len(text) // 2 :][:2]
        reply = ask(client, user(pictures[0]), stop=stop)
        assert reply.choices[0].message.content == text[: text.index(stop)]
        assert reply.choices[0].finish_reason == "stop"

    @pytest.mark.slow
    def test_draws_by_seed(self, client, pictures):
        def draw(seed: int) -> str:
            return ask(client, user(pictures[0]), temperature=1.0, seed=seed).choices[0].message.content

        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(draw, (0, 1, 0, 1)))
        assert together == [draw(seed) for seed in (0, 1, 0, 1)]
        assert together[0] != together[1]

    @pytest.mark.slow
    def test_temperature_of_zero_is_greedy(self, client, pictures):
        drawn = {ask(client, user(pictures[0]), temperature=t).choices[0].message.content for t in (0, 0, 1e-40)}
        assert drawn == {ask(client, user(pictures[0])).choices[0].message.content}


class TestStream:
    @pytest.mark.parametrize("question", [None, QUESTION])
    def test_joins_to_the_whole(self, client, pictures, question):
        message = user(pictures[0], *([question] if question else []))
        whole = ask(client, message)
        chunks = list(ask(client, message, stream=True, stream_options={"include_usage": True}))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
        assert chunks[-1].usage == whole.usage
        assert len({chunk.id for chunk in chunks}) == 1

    def test_grows(self, client, model, pictures):
        settings = {"temperature": 1.0, "seed": 3}
        stream = ask(client, user(pictures[0]), stream=True, **settings)
        parts = [chunk.choices[0].delta.content for chunk in stream if chunk.choices[0].delta.content]
        assert len(parts) > 2
        assert "".join(parts) == ask(client, user(pictures[0]), **settings).choices[0].message.content

    def test_stop_is_never_sent(self, client, pictures):
        for settings in ({}, {"temperature": 1.0, "seed": 3}):
            text = ask(client, user(pictures[0]), **settings).choices[0].message.content
            stop = text[len(text) // 2 :][:6]
            stream = ask(client, user(pictures[0]), stream=True, stop=[stop, "never there"], **settings)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == text[: text.index(stop)]

    def test_nothing_is_sent_that_may_belong_to_a_stop(self, model):
        sent = []
        chat = Chat({}, CAPTION, {}, ["the cat sat"], None, is_streamed=True)
        draft = _Draft(Job(chat, None, sent.append), model)
        for text in ("the", "the cat", "the cat s", "the cat sleeps on a mat"):
            draft.grow(model.processor.tokenizer(text, return_tensors="pt").input_ids[0])
        assert not any(text for text in sent[:3])
        assert "the cat sleeps on a mat".startswith(sent[3]) and sent[3]

    def test_refused_with_a_status(self, client):
        with pytest.raises(openai.APIStatusError) as error:
            ask(client, user("a " * 1500), stream=True)
        assert error.value.status_code == 413


class TestPaint:
    def test_is_the_pipelines(self, client, model):
        (picture,) = paint(client, "a cat", extra_body={"seed": 3, **STEPS})
        assert difference(picture, expect_picture(model, "a cat", 3)) == 0

    @pytest.mark.slow
    def test_whatever_it_is_batched_with(self, client, model, monkeypatch):
        sizes, run = [], type(model.pipeline).__call__

        def count(self, prompts, **settings):
            sizes.append(len(prompts))
            return run(self, prompts, **settings)

        monkeypatch.setattr(type(model.pipeline), "__call__", count)
        prompts = ["a cat", "a dog on a red sofa", "a cat", "a very small and very old house"]
        with ThreadPoolExecutor(len(prompts)) as pool:
            drawn = list(
                pool.map(
                    lambda number: paint(client, prompts[number], extra_body={"seed": number, **STEPS})[0],
                    range(len(prompts)),
                )
            )
        monkeypatch.undo()
        assert sum(sizes) == len(prompts)
        assert max(sizes) > 1
        for number, picture in enumerate(drawn):
            assert difference(picture, expect_picture(model, prompts[number], number)) <= 1

    @pytest.mark.parametrize(
        ("own", "asked", "expected"), [(5, None, [5, 6, 7]), (5, 9, [9, 10, 11]), (None, 9, [9, 10, 11])]
    )
    def test_each_image_of_a_prompt_has_a_seed_of_its_own(self, model, own, asked, expected):
        painting = SimpleNamespace(seed=asked, num_pictures=3)
        seeded = replace(model, seed=own)
        assert [generator.initial_seed() for generator in _make_generators(painting, seeded)] == expected

    @pytest.mark.slow
    def test_several_of_a_prompt(self, client, model):
        drawn = paint(client, "a cat", n=2, extra_body={"seed": 7, **STEPS})
        for number, picture in enumerate(drawn):
            assert difference(picture, expect_picture(model, "a cat", 7 + number)) <= 1
        assert difference(*drawn) > 1

    @pytest.mark.parametrize(
        ("limits", "batches"),
        [
            ({"max_batch_pixels": 2}, [2, 1]),
            pytest.param({"max_batch_size": 1}, [1, 1, 1], marks=pytest.mark.slow),
        ],
    )
    def test_many_pixels_take_several_batches(self, model, monkeypatch, limits, batches):
        """Which does not change the images. A limit on pixels is in images of the model's own size here."""
        side, sizes, run = model.pipeline.picture_size, [], type(model.pipeline).__call__
        if "max_batch_pixels" in limits:
            limits = {"max_batch_pixels": limits["max_batch_pixels"] * side * side}
        limits = replace(LIMITS, **limits)

        def count(self, prompts, **settings):
            sizes.append(len(prompts))
            return run(self, prompts, **settings)

        monkeypatch.setattr(type(model.pipeline), "__call__", count)
        jobs = []
        for prompt, n, seed in (("a cat", 1, 5), ("a dog", 2, 9)):
            fields = PaintFields(prompt=prompt, n=n, seed=seed, **STEPS)
            jobs.append(Job(prepare_painting(fields, [], model, limits), None, print))
        painted = write_pictures(jobs, model)
        monkeypatch.undo()
        assert sizes == batches
        for job, row, seed in zip(jobs, painted, (5, 9)):
            assert len(row) == job.inputs.num_pictures
            for number, picture in enumerate(row):
                assert difference(picture.image, expect_picture(model, job.inputs.prompt, seed + number)) <= 1

    @pytest.mark.parametrize(("num_at_once", "num_rows"), [(1, 32), (4, 8), (9, 2), (16, 2), (100, 2)])
    def test_large_images_fill_a_batch_sooner(self, model, num_at_once, num_rows):
        """So that the scheduler does not let many requests wait for the last of their images."""
        limits = replace(LIMITS, max_batch_pixels=num_at_once * model.pipeline.picture_size**2)
        painting = prepare_painting(PaintFields(prompt="a cat", n=2), [], model, limits)
        assert (painting.num_at_once, painting.num_rows) == (min(num_at_once, 16), num_rows)

    def test_fields_that_change_nothing(self, client, model):
        names = {"user": "a", "quality": "standard", "style": "vivid", "background": "opaque", "moderation": "auto"}
        (picture,) = paint(client, "a cat", **names, extra_body={"seed": 3, "safety_identifier": "b", **STEPS})
        assert difference(picture, expect_picture(model, "a cat", 3)) == 0

    def test_size_and_settings(self, client, model):
        settings = {"seed": 1, "num_inference_steps": 1, "guidance_scale": 2.0, "negative_prompt": "a dog"}
        width, height = model.pipeline.picture_size, model.pipeline.picture_size // 2
        (picture,) = paint(client, "a cat", size=f"{width}x{height}", extra_body=settings)
        assert picture.size == (width, height)
        settings = {name: settings[name] for name in settings if name != "seed"}
        expected = expect_picture(model, "a cat", 1, width=width, height=height, **settings)
        assert difference(picture, expected) == 0

    def test_format(self, client, model):
        (picture,) = paint(client, "a cat", output_format="webp", extra_body=STEPS)
        assert picture.format == "WEBP"

    def test_prompt_with_pictures(self, client, model, pictures):
        prompt, files = "<image> as <image>", [picture.read_bytes() for picture in pictures[:2]]
        files = [(f"{number}.png", file) for number, file in enumerate(files)]
        response = client.images.edit(image=files, prompt=prompt, extra_body={"seed": 2, **STEPS})
        images = [Image.open(picture) for picture in pictures[:2]]
        expected = expect_picture(model, prompt, 2, [images])
        assert difference(decode(response.data[0].b64_json), expected) == 0

    def test_one_picture(self, client, model, pictures):
        with open(pictures[0], "rb") as file:
            response = client.images.edit(image=file, prompt="in red", extra_body={"seed": 2, **STEPS})
        expected = expect_picture(model, "in red", 2, [[Image.open(pictures[0])]])
        assert difference(decode(response.data[0].b64_json), expected) == 0

    @pytest.mark.parametrize("decoder", ["highres", "lowres"])
    def test_flagged_where_a_checker_ran(self, repos, decoder):
        has_checker = decoder == "lowres"
        model = load_served_model(ModelOptions(str(repos[decoder]), dtype=DType.float32))
        with serving(lambda: model) as (url, service, _):
            wait_until(lambda: service.status == "ok")
            (entry,) = post(url, "images/generations", {"prompt": "a cat", "seed": 1, **STEPS}).json()["data"]
        assert ("flagged" in entry) == has_checker
        assert not has_checker or entry["flagged"] == (max(decode(entry["b64_json"]).getdata(0)) == 0)

    def test_model_that_cannot(self, converted):
        with serving(lambda: load_served_model(ModelOptions(str(converted)))) as (_, service, client):
            wait_until(lambda: service.status == "ok")
            with pytest.raises(openai.BadRequestError, match="no pixel decoder"):
                paint(client, "a cat")


class TestModels:
    def test_list(self, client):
        assert [model.id for model in client.models.list()] == ["highres"]
        assert client.models.retrieve("highres").owned_by == "lavit_hf"

    def test_folder_without_a_name(self, converted, monkeypatch):
        monkeypatch.chdir(converted)
        assert load_served_model(ModelOptions(".")).name == converted.name

    def test_unknown(self, client, pictures):
        with pytest.raises(openai.NotFoundError, match="no model 'gpt'"):
            client.chat.completions.create(model="gpt", messages=[user(pictures[0])])
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("gpt")
        with pytest.raises(openai.NotFoundError):
            paint(client, "a cat", model="gpt")

    def test_health(self, url):
        assert httpx.get(f"{url}/health").json()["status"] == "ok"


def part(kind: str, **fields) -> dict:
    return {"role": "user", "content": [{"type": kind, **fields}]}


def image(url: str) -> dict:
    return part("image_url", image_url={"url": url})


class TestBadInput:
    @pytest.mark.parametrize(
        ("messages", "words"),
        [
            ([], "messages"),
            ([{"role": "tool", "content": "a"}], "messages.0.role"),
            ([part("input_audio", input_audio={})], "messages.0.content.0"),
            ([part("image_url")], "messages.0.content.0.image_url"),
            ([part("text")], "messages.0.content.0.text"),
            ([{"role": "user", "content": None}], "messages.0.content"),
            ([image("data:image/png;base64,@@@@")], "damaged base64"),
            ([image("data:image/png;base64,")], "is empty (0 bytes)"),
            ([image("data:image/png;base64,aGVsbG8=")], "not an image in a format"),
            ([image("data:image/png,abc")], "not base64"),
            ([image("/etc/passwd")], "is not the URL of an image"),
            ([image("file:///etc/passwd")], "is not the URL of an image"),
            ([image("http://127.0.0.1:9/cat.png")], "does not download images"),
            ([{"role": "user", "content": []}], ""),
            ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "must come from the user"),
        ],
    )
    def test_chats(self, client, messages, words):
        with pytest.raises(openai.BadRequestError) as error:
            client.chat.completions.create(model="highres", messages=messages)
        assert words in error.value.body["message"]
        assert error.value.body["type"] == "invalid_request_error"

    def test_pictures_are_counted(self, client, pictures):
        for send in (
            lambda: ask(client, user(*[pictures[0]] * 4)),
            lambda: client.images.edit(image=[("a.png", pictures[0].read_bytes())] * 4, prompt="a"),
        ):
            with pytest.raises(openai.APIStatusError, match="more than 3 images") as error:
                send()
            assert error.value.status_code == 413

    def test_texts_are_bounded_together(self, client):
        turn = user("a" * 1500)
        for send in (
            lambda: ask(client, turn, {"role": "assistant", "content": "b"}, turn),
            lambda: paint(client, "a" * 3000),
        ):
            with pytest.raises(openai.APIStatusError, match=r"3,00[01] characters, but at most 2,000") as error:
                send()
            assert error.value.status_code == 413

    @pytest.mark.parametrize(
        ("settings", "param"),
        [
            ({"n": 2}, "n"),
            ({"temperature": 3}, "temperature"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"seed": -1}, "seed"),
            ({"stop": ["a"] * 5}, "stop"),
            ({"logprobs": True}, "logprobs"),
            ({"response_format": {"type": "json_object"}}, "response_format.type"),
            ({"frequency_penalty": 0.5}, "frequency_penalty"),
            ({"stream_options": {"include_usage": True}}, "stream_options"),
            ({"tools": []}, "tools"),
            ({"store": True}, "store"),
            ({"service_tier": "priority"}, "service_tier"),
            ({"metadata": {"a": {}}}, "metadata.a"),
        ],
    )
    def test_settings_of_chats(self, client, settings, param):
        with pytest.raises(openai.BadRequestError) as error:
            ask(client, user("a"), **settings)
        assert error.value.body["param"] == param

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"prompt": ""}, "the prompt is empty"),
            ({"prompt": "a <image>"}, "0 images"),
            ({"prompt": "a", "n": 5}, "n is 5, but at most 4"),
            ({"prompt": "a", "size": "4096x4096"}, "size is 4096, but at most 2048"),
            ({"prompt": "a", "size": "33x64"}, "positive multiple"),
            ({"prompt": "a", "size": "large"}, "512x512"),
            ({"prompt": "a", "response_format": "url"}, "b64_json"),
            ({"prompt": "a", "quality": "hd"}, "quality: Input should be 'auto' or 'standard'"),
            ({"prompt": "a", "background": "transparent"}, "background: Input should be 'auto' or 'opaque'"),
            ({"prompt": "a", "style": "natural"}, "style: Input should be 'vivid'"),
            ({"prompt": "a", "moderation": "low"}, "moderation: Input should be 'auto'"),
            ({"prompt": "a", "size": "2048x1024"}, "size is 2048x1024, 2,097,152 pixels, but at most 1,048,576"),
            ({"prompt": "a", "extra_body": {"num_inference_steps": 9999}}, "at most 1000"),
        ],
    )
    def test_settings_of_pictures(self, client, settings, words):
        with pytest.raises(openai.BadRequestError) as error:
            client.images.generate(**settings)
        assert words in error.value.body["message"]

    @pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
    def test_texts_that_exceed_the_context(self, client, model, monkeypatch, field):
        monkeypatch.setattr(model.language_model.config.text_config, "max_position_embeddings", 20)
        texts = {"prompt": "a cat", "negative_prompt": "a dog", field: "a " * 50}
        with pytest.raises(openai.BadRequestError, match="the model reads at most 20") as error:
            paint(client, texts["prompt"], extra_body={"negative_prompt": texts["negative_prompt"]})
        assert (error.value.param, error.value.code) == (field, "context_length_exceeded")

    @pytest.mark.parametrize("path", ["chat/completions", "images/generations", "images/edits"])
    def test_long_names_are_shortened(self, url, pictures, path):
        name, body = "a" * 2_000, {"messages": [user("a")]} if path.startswith("chat") else {"prompt": "a"}
        if path == "images/edits":
            files = {"image": pictures[0].read_bytes()}
            response = httpx.post(f"{url}/v1/{path}", files=files, data={**body, name: "1"})
        else:
            response = post(url, path, {**body, name: 1})
        error = response.json()["error"]
        assert response.status_code == 400
        assert error["param"] == "a" * 99 + "…"
        assert error["message"] == f"{error['param']}: Extra inputs are not permitted"

    def test_long_names_of_models_and_paths_are_shortened(self, url):
        name = "a" * 900
        for response in (post(url, "images/generations", {"prompt": "a", "model": name}), post(url, name, {})):
            error = response.json()["error"]
            assert response.status_code == 404
            assert "a…" in error["message"] and len(error["message"]) < 200

    def test_form_in_capitals(self, url, pictures):
        form = httpx.Request("POST", url, files={"image": pictures[0].read_bytes()}, data={"prompt": "a", "n": "9"})
        headers = {"content-type": form.headers["content-type"].replace("multipart/form-data", "Multipart/Form-Data")}
        assert "n is 9" in post(url, "images/edits", form.read(), headers=headers).json()["error"]["message"]

    def test_edits(self, client, url, pictures):
        with pytest.raises(openai.BadRequestError, match="not an image in a format"):
            client.images.edit(image=b"no picture", prompt="a")
        with pytest.raises(openai.BadRequestError, match="Leave the mask out"):
            client.images.edit(image=pictures[0].read_bytes(), mask=pictures[0].read_bytes(), prompt="a")
        assert httpx.post(f"{url}/v1/images/edits", files={"other": b"a"}, data={"prompt": "a"}).status_code == 400
        assert httpx.post(f"{url}/v1/images/edits", data={"prompt": "a"}).status_code == 415

    @pytest.mark.parametrize(
        ("body", "status", "words"),
        [
            (b"{", 400, "JSON"),
            (b"[]", 400, ""),
            (b"\xff\xfe", 400, "JSON"),
            (b'{"messages":' + b"[" * 100_000, 400, ""),
            (b'{"messages": [' + b"1," * 250_000 + b"1]}", 413, "commas"),
            (b" " * 50 * 2**20, 413, "larger than 1 MiB"),
        ],
    )
    def test_bodies(self, url, body, status, words):
        response = post(url, "chat/completions", body)
        assert response.status_code == status
        assert words in response.json()["error"]["message"]

    def test_body_without_a_length(self, url):
        blocks = (b" " * 2**20 for _ in range(50))
        headers = {"content-type": "application/json"}
        response = httpx.post(f"{url}/v1/chat/completions", content=blocks, headers=headers, timeout=60)
        assert response.status_code == 413

    def test_uploads_are_bounded(self, url):
        response = httpx.post(f"{url}/v1/images/edits", files={"image": b"0" * 2**21}, data={"prompt": "a"})
        assert response.status_code == 413

    def test_other_kinds_of_bodies_and_paths(self, url):
        headers = {"content-type": "text/plain"}  # as a page elsewhere could send without asking
        assert post(url, "chat/completions", {"messages": []}, headers=headers).status_code == 415
        assert post(url, "completions", {}).status_code == 404
        assert httpx.get(f"{url}/v1/chat/completions").status_code == 405
        assert post(url, "completions", {}).json()["error"]["type"] == "invalid_request_error"

    @pytest.mark.slow
    def test_slow_body(self, model):
        limits = replace(LIMITS, body_seconds=0.2)
        with serving(lambda: model, limits) as (url, service, _):
            wait_until(lambda: service.status == "ok")

            def trickle():
                for _ in range(50):
                    time.sleep(0.1)
                    yield b" "

            headers = {"content-type": "application/json"}
            response = httpx.post(f"{url}/v1/chat/completions", content=trickle(), headers=headers, timeout=60)
            assert response.status_code == 408

    def test_body_that_breaks_off(self, service):
        """The client has left while it sent its request, which is no failure of the server."""
        received, sent = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"{", "more_body": True}], []

        async def receive() -> dict:
            return received.pop()

        async def send(message: dict) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers}
        asyncio.run(build_app(service)(scope | {"query_string": b""}, receive, send))
        assert sent[0]["status"] == 499

    def test_failure_of_the_servers_own(self, client, model, pictures, monkeypatch):
        def fail(**inputs):
            raise RuntimeError("secret")

        monkeypatch.setattr(model.language_model, "generate", fail)
        with pytest.raises(openai.InternalServerError) as error:
            ask(client, user(pictures[0]))
        assert "secret" not in str(error.value)
        monkeypatch.undo()
        assert ask(client, user(pictures[0])).choices[0].message.content == expect_text(model, user(pictures[0]))


class TestRemotePictures:
    @pytest.fixture
    def remote(self, model):
        with serving(lambda: model, replace(LIMITS, remote_images=True)) as (_, service, client):
            wait_until(lambda: service.status == "ok")
            yield client

    def test_are_read_where_allowed(self, remote, model, pictures):
        def handle(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(pictures[0].read_bytes())

        handler = type("Handler", (BaseHTTPRequestHandler,), {"do_GET": handle, "log_message": lambda *_: None})
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            reply = ask(remote, image(f"http://127.0.0.1:{server.server_port}/cat.png"))
            server.shutdown()
        assert reply.choices[0].message.content == expect_text(model, user(pictures[0]))

    @pytest.mark.parametrize("url", ["/etc/passwd", "file:///etc/passwd", "ftp://example.org/cat.png"])
    def test_nothing_else_is(self, remote, url):
        with pytest.raises(openai.BadRequestError, match="is not the URL of an image"):
            ask(remote, image(url))


class TestKey:
    @pytest.fixture(scope="class")
    def locked(self, model):
        with serving(lambda: model, api_key="right") as (url, service, client):
            wait_until(lambda: service.status == "ok")
            yield url, client

    def test_wrong(self, locked):
        url, _ = locked
        for key in ("wrong", "right2"):
            with pytest.raises(openai.AuthenticationError) as error:
                openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0).models.list()
            assert error.value.code == "invalid_api_key"
        assert httpx.get(f"{url}/v1/models").status_code == 401
        assert httpx.get(f"{url}/openapi.json").status_code == 404  # nothing but the health is told

    def test_right(self, locked):
        url, client = locked
        assert [model.id for model in client.with_options(api_key="right").models.list()] == ["highres"]
        assert httpx.get(f"{url}/health").status_code == 200


class TestLoad:
    """Many at once, and those who leave."""

    def test_one_who_leaves_does_not_stall_the_rest(self, client, model, service, pictures, monkeypatch):
        steps, forward = [], model.pipeline.unet.forward

        def count(*inputs, **settings):
            steps.append(1)
            return forward(*inputs, **settings)

        monkeypatch.setattr(model.pipeline.unet, "forward", count)
        with pytest.raises(openai.APITimeoutError):
            paint(client.with_options(timeout=1.0), "a cat", extra_body={"num_inference_steps": 900})
        reply = ask(client, user(pictures[0]))
        monkeypatch.undo()
        assert reply.choices[0].message.content == expect_text(model, user(pictures[0]))
        assert len(steps) < 900
        assert service.scheduler.num_running == service.scheduler.num_waiting == 0

    def test_one_who_leaves_a_stream(self, client, model, service, pictures):
        stream = ask(client, user(pictures[0]), stream=True, temperature=2.0, max_tokens=500)
        next(iter(stream))
        stream.close()
        wait_until(lambda: service.scheduler.num_running == 0)
        assert ask(client, user(pictures[0])).choices[0].message.content == expect_text(model, user(pictures[0]))

    def test_queue_is_bounded(self, model, pictures, monkeypatch):
        gate, generate = threading.Event(), model.language_model.generate

        def wait(**inputs):
            gate.wait(60)
            return generate(**inputs)

        monkeypatch.setattr(model.language_model, "generate", wait)
        limits = replace(LIMITS, max_waiting=2, max_batch_size=1)
        with serving(lambda: model, limits) as (_, service, client), ThreadPoolExecutor(3) as pool:
            wait_until(lambda: service.status == "ok")
            replies = [pool.submit(ask, client, user(pictures[0]))]
            wait_until(lambda: service.scheduler.num_running == 1)
            for number in (1, 2):
                replies.append(pool.submit(ask, client, user(pictures[0])))
                wait_until(lambda number=number: service.scheduler.num_waiting == number)
            with pytest.raises(openai.RateLimitError) as error:
                ask(client, user(pictures[0]))
            assert error.value.response.headers["retry-after"]
            gate.set()
            texts = {reply.result().choices[0].message.content for reply in replies}
        assert texts == {expect_text(model, user(pictures[0]))}

    def test_time_is_bounded(self, model, pictures, monkeypatch):
        gate = threading.Event()
        monkeypatch.setattr(model.language_model, "generate", lambda **inputs: gate.wait(60))
        with serving(lambda: model, replace(LIMITS, request_seconds=0.3)) as (_, service, client):
            wait_until(lambda: service.status == "ok")
            with pytest.raises(openai.InternalServerError) as error:
                ask(client, user(pictures[0]))
            gate.set()
        assert error.value.status_code == 504

    def test_while_it_loads_and_closes(self, model, pictures, monkeypatch):
        gate, loaded = threading.Event(), []
        monkeypatch.setattr(model.language_model, "generate", lambda **inputs: gate.wait(60))
        limits = replace(LIMITS, max_batch_size=1, closing_seconds=1.0)

        def load():
            gate.wait(60)
            return model

        with serving(load, limits, ready=loaded.append) as (url, service, client), ThreadPoolExecutor(2) as pool:
            assert httpx.get(f"{url}/health").status_code == 503
            with pytest.raises(openai.InternalServerError, match="is loading") as error:
                ask(client, user(pictures[0]))
            assert error.value.status_code == 503
            gate.set()
            wait_until(lambda: service.status == "ok")
            assert loaded == [model]
            gate.clear()
            running = pool.submit(ask, client, user(pictures[0]))
            wait_until(lambda: service.scheduler.num_running == 1)
            waiting = pool.submit(ask, client, user(pictures[0]))
            wait_until(lambda: service.scheduler.num_waiting == 1)
            threading.Thread(target=service.close).start()
            with pytest.raises(openai.InternalServerError, match="is shutting down"):
                waiting.result()
            gate.set()
            assert running.exception() is not None

    def test_closing_ends_what_runs_too_long(self, model, pictures, monkeypatch):
        gate = threading.Event()
        monkeypatch.setattr(model.language_model, "generate", lambda **inputs: gate.wait(60))
        limits = replace(LIMITS, closing_seconds=1.0)
        with serving(lambda: model, limits) as (_, service, client), ThreadPoolExecutor(1) as pool:
            wait_until(lambda: service.status == "ok")
            running = pool.submit(ask, client, user(pictures[0]))
            wait_until(lambda: service.scheduler.num_running == 1)
            closing = threading.Thread(target=service.close)
            closing.start()
            with pytest.raises(openai.InternalServerError, match="is shutting down") as error:
                running.result(30)
            gate.set()
            closing.join()
        assert error.value.status_code == 503


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


class TestCommand:
    """What fails does so before a model is loaded, in one line."""

    @pytest.fixture(autouse=True)
    def never_load(self, monkeypatch):
        monkeypatch.setattr("lavit_hf.server.model.load_served_model", lambda *_: pytest.fail("loaded for nothing"))

    def fail(self, *arguments, exit_code: int = 1) -> str:
        result = run("serve", *arguments)
        assert result.exit_code == exit_code, result.output
        assert exit_code == 2 or len(result.stderr.splitlines()) == 1
        return " ".join(result.stderr.split())

    def test_port_in_use(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            assert f"port {port} is in use" in self.fail("--port", port)

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no stream that is always full")
    def test_no_room_to_tell_where(self, monkeypatch):
        with open("/dev/full", "w") as file:
            monkeypatch.setattr(sys, "stdout", file)
            announce("it runs")
            monkeypatch.undo()
            with pytest.raises(OSError, match="No space"):
                file.flush()
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())  # so that it can be closed

    @pytest.mark.parametrize("is_noticed", [True, False])
    def test_port_taken_in_the_meantime(self, model, monkeypatch, is_noticed):
        """Also if it happens while the server starts, when uvicorn exits by itself."""
        server = make_server(Service(lambda: model), "127.0.0.1", port := claim_port("127.0.0.1", 0))
        checks = iter([is_noticed])
        monkeypatch.setattr(
            "lavit_hf.server.serving.claim_port", lambda *address: next(checks, True) and claim_port(*address)
        )
        with socket.create_server(("127.0.0.1", port)), pytest.raises(Failure, match=f"port {port} is in use"):
            server.run()

    def test_foreign_address(self):
        assert "is not an address of this machine" in self.fail("--host", "203.0.113.7", "--port", 0)

    @pytest.mark.parametrize("host", ["a" * 64, "a..b"])
    def test_address_that_cannot_exist(self, host):
        assert f"the address '{host}' does not exist" in self.fail("--host", host, "--port", 0)

    def test_no_such_model(self, tmp_path):
        assert "config.json is missing" in self.fail("--port", 0, "--model", tmp_path)

    @pytest.mark.parametrize("key", ["", " a", "\N{SNOWMAN}"])
    def test_key_that_cannot_be_sent(self, key):
        assert "printable ASCII" in self.fail("--api-key", key, exit_code=2)

    def test_missing_packages(self, monkeypatch):
        monkeypatch.setattr("lavit_hf.server.serving.find_spec", lambda name: None)
        assert "pip install 'lavit_hf[serve]'" in self.fail("--port", 0)

    def test_model_that_cannot_be_loaded(self, monkeypatch):
        def fail(*_):
            raise OSError("no room for it")

        monkeypatch.setattr("lavit_hf.server.model.load_served_model", fail)
        assert "no room for it" in self.fail("--port", 0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no signals to send")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_command_serves_until_it_is_ended(ending):
    port, environment = claim_port("127.0.0.1", 0), {**os.environ, "LAVIT_API_KEY": "right", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "lavit_hf.cli", "serve", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert f"http://127.0.0.1:{port}/v1" in process.stdout.readline()
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="right", max_retries=0)
        assert [model.id for model in client.models.list()] == ["lavit-emoji"]
        process.send_signal(ending)
        assert process.wait(60) in (130, -ending)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no stream that is always full")
@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
def test_command_serves_without_standard_output(redirection):
    port = claim_port("127.0.0.1", 0)
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-m", "lavit_hf.cli", "serve", "--port"]

    def is_up() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        except httpx.TransportError:
            return False

    with subprocess.Popen([*command, str(port)], stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(is_up, 120)
            time.sleep(1)  # for the line on standard output
        finally:
            process.terminate()
        assert "Traceback" not in process.stderr.read()
