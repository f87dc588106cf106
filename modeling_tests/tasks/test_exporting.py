# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit export-llm`: a repo that knows nothing of LaVIT, whose logits are LaVIT's."""

import base64
import io
import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM
from typer.testing import CliRunner

from lavit_hf import LaVITForCausalLM, LaVITProcessor, bundled_checkpoint
from lavit_hf.cli.app import app
from lavit_hf.tasks.exporting import extract_language_model


ROOT = Path(__file__).parents[2]


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module", params=["converted", "bundled"])
def repo(request) -> str:
    return bundled_checkpoint() if request.param == "bundled" else str(request.getfixturevalue("converted"))


@pytest.fixture(scope="module")
def exported(repo, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "llm"
    result = run("export-llm", folder, "--model", repo)
    assert result.exit_code == 0, result.output
    assert "LlamaForCausalLM" in result.stdout
    return folder


@pytest.fixture(scope="module")
def model(repo) -> LaVITForCausalLM:
    model = LaVITForCausalLM.from_pretrained(repo)
    model.visual_tokenizer.config.selection = "threshold"
    return model


@pytest.fixture(scope="module")
def processor(repo) -> LaVITProcessor:
    return LaVITProcessor.from_pretrained(repo)


@pytest.fixture(scope="module")
def language_model(exported) -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(exported)


def test_is_plain(exported, language_model, model):
    assert type(language_model) is LlamaForCausalLM
    assert language_model.dtype == model.dtype
    assert json.loads((exported / "config.json").read_text())["model_type"] == "llama"
    names = {path.name for path in exported.iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


@torch.no_grad()
def test_logits_of_ids(language_model, model, processor, golden):
    image = model.get_image_tokens(pixels(model, processor, golden))[0]
    text = processor.tokenizer("a picture of a cat", return_tensors="pt").input_ids[0]
    ids = torch.cat([text, image, text])[None]
    assert torch.equal(language_model(ids).logits, model(ids).logits)


@torch.no_grad()
def test_logits_of_embeddings(language_model, model, processor, golden):
    rows = model.get_image_features(pixels(model, processor, golden)).pooler_output
    ids = processor(images=str(golden.image_paths[0]), text=processor.format_question("What?")).input_ids
    embeds = model.model.fill_slots(rows, ids).inputs_embeds
    assert embeds.shape[1] == ids.shape[1] + len(rows[0])
    assert torch.equal(language_model(inputs_embeds=embeds).logits, model(inputs_embeds=embeds).logits)


def pixels(model, processor, golden) -> torch.Tensor:
    return processor(images=str(golden.image_paths[0])).pixel_values.to(model.dtype)


def test_weights_are_shared_until_they_are_written(model):
    language_model = extract_language_model(model)
    assert language_model.get_input_embeddings() is model.get_input_embeddings()
    assert not any(parameter.is_meta for parameter in language_model.parameters())


def test_tokenizer(exported, processor):
    tokenizer = AutoTokenizer.from_pretrained(exported)
    assert len(tokenizer) == len(processor.tokenizer)
    text = "a picture of a cat"
    assert tokenizer(text).input_ids == processor.tokenizer(text).input_ids
    # As all tokenizers but LaVIT's do; vLLM has a token of its own for embeddings, which it reads back out of a text.
    assert tokenizer("[IMG]").input_ids == [processor.image_start_token_id]
    tokenizer.add_special_tokens({"additional_special_tokens": ["<prompt_embeds>"]})
    assert len(tokenizer("<prompt_embeds>").input_ids) == 1
    assert "LaVIT" not in (exported / "tokenizer_config.json").read_text()


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    result = run("export-llm", tmp_path)
    assert result.exit_code == 2
    assert "already" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_no_such_model(tmp_path):
    result = run("export-llm", tmp_path / "llm", "--model", tmp_path)
    assert result.exit_code == 1
    assert result.stderr.startswith("lavit export-llm: ")
    assert not (tmp_path / "llm").exists()


class StandIn(BaseHTTPRequestHandler):
    """What vLLM's completions do with prompt embeddings, by transformers."""

    model: LlamaForCausalLM
    tokenizer = None

    def do_GET(self):
        self._answer({"object": "list", "data": [{"id": "llm", "object": "model", "created": 0, "owned_by": "me"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        embeds = torch.load(io.BytesIO(base64.b64decode(body["prompt_embeds"])), weights_only=True)
        assert body["prompt"] is None
        suppressed = sorted(set(range(self.model.config.vocab_size)) - set(body["allowed_token_ids"]))
        ids = self.model.generate(
            inputs_embeds=embeds[None], max_new_tokens=body["max_tokens"], suppress_tokens=suppressed
        )
        choice = {"index": 0, "text": self.tokenizer.decode(ids[0], skip_special_tokens=True)}
        self._answer({"id": "a", "object": "text_completion", "created": 0, "model": "llm", "choices": [choice]})

    def _answer(self, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_client_of_vllm(exported, language_model, repo, golden):
    if repo != bundled_checkpoint():
        pytest.skip("draws the patches that it reads")
    StandIn.model, StandIn.tokenizer = language_model, AutoTokenizer.from_pretrained(exported)
    picture = str(ROOT / "examples/images/emoji/penguin.png")
    with ThreadingHTTPServer(("127.0.0.1", 0), StandIn) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        command = [sys.executable, str(ROOT / "examples/vllm_client.py"), picture, "--url", url]
        caption = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        server.shutdown()
    assert caption == run("caption", picture).stdout.strip()
