# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that anyone may have written: one error that names the file, and nothing outside is read."""

import json
import os
import shutil

import pytest

from lavit_hf import LaVITConfig, LaVITForCausalLM, LaVITImageProcessor, LaVITProcessor, LaVITVisualTokenizer
from lavit_hf.conversion import convert_checkpoint
from lavit_hf.lavit.untrusted_files import CheckpointError, is_inside, read_json, read_weight_map, shorten


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Expecting value"),
        ("null", "NoneType"),
        ("[]", "list"),
        ("5", "int"),
        ("\xff", "utf-8"),
        ("[" * 100_000, "recursion"),
        ('{"a":' * 100 + "1" + "}" * 100, "64 levels"),
        ('{"a": NaN}', "NaN"),
        ('{"a": 1e999}', "out of bounds"),
        ('{"a": ' + "1" * 5000 + "}", "digits"),
        ('{"a": "\\ud800"}', "surrogates"),
        ('{"a": 1, "a": 2}', "is repeated"),
        ('{"a": ', "Expecting value"),
    ],
)
def test_json_that_is_no_configuration(tmp_path, content, reason):
    (tmp_path / "x.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=rf"x\.json is not a usable JSON object.*{reason}") as refusal:
        read_json(tmp_path / "x.json")
    assert len(str(refusal.value)) < 1000


def test_json_as_it_should_be(tmp_path):
    content = {"a": [1, 2.5, None, True, {"ä": "é"}], "b": 10**30}
    (tmp_path / "x.json").write_text(json.dumps(content))
    assert read_json(tmp_path / "x.json") == content


@pytest.mark.parametrize(
    "name",
    [5, None, [], "/etc/passwd", "../x", "a/../../x", "C:\\x", "a\\..\\b", "\0", "\x1b[2J/../x", "../" + "x" * 5000],
)
def test_index_of_other_files(tmp_path, name):
    (tmp_path / "i.json").write_text(json.dumps({"weight_map": {"weight": name}}))
    with pytest.raises(CheckpointError, match=r"i\.json") as refusal:
        read_weight_map(tmp_path / "i.json")
    assert len(str(refusal.value)) < 1000 and "\x1b" not in str(refusal.value)


def test_index_of_a_folder_below(tmp_path):
    (tmp_path / "i.json").write_text(json.dumps({"weight_map": {"weight": "language_model/x..y.safetensors"}}))
    assert read_weight_map(tmp_path / "i.json") == {"weight": "language_model/x..y.safetensors"}


def test_links(tmp_path):
    snapshot = tmp_path / "models--a--b" / "snapshots" / "1" / "unet"
    snapshot.mkdir(parents=True)
    targets = {"blobs/x": False, "models--a--b/blobs/x": False, "models--a--c/blobs/x": False, "x": False}
    for number, target in enumerate(targets):
        (snapshot / str(number)).symlink_to(tmp_path / target)
        targets[target] = is_inside(snapshot / str(number), snapshot)
    assert list(targets.values()) == [True, True, False, False]
    (snapshot / "loop").symlink_to("loop")
    assert is_inside(snapshot / "loop", snapshot)


def test_shortened_text():
    assert shorten("a\x1b[2J\ud800\nb") == "a\\x1b[2J\\ud800\nb"
    assert shorten("x" * 300, 10) == "x" * 9 + "…"


class TestLoading:
    @pytest.fixture(scope="class")
    def whole(self, golden, tmp_path_factory):
        folder = tmp_path_factory.mktemp("whole") / "lavit"
        return convert_checkpoint(golden.original, folder, golden.facts["dims"]["heads"], max_shard_size="1MB")

    @pytest.fixture
    def repo(self, whole, tmp_path):
        return shutil.copytree(whole, tmp_path / "repo")

    @pytest.mark.parametrize("model_class", [LaVITForCausalLM, LaVITVisualTokenizer])
    @pytest.mark.parametrize("how", ["absolute", "relative", "link"])
    def test_index_that_leaves_the_folder(self, repo, model_class, how):
        index = repo / "visual_tokenizer.safetensors.index.json"
        shard = min(json.loads(index.read_text())["weight_map"].values())
        elsewhere = shutil.move(repo / shard, repo.parent / shard)
        if how == "link":
            (repo / shard).symlink_to(elsewhere)
        name = {"absolute": str(elsewhere), "relative": f"../{shard}", "link": shard}[how]
        for path in repo.glob("*.index.json"):
            path.write_text(path.read_text().replace(shard, name))
        with pytest.raises(ValueError, match=r"not inside|symbolic link out of") as refusal:
            model_class.from_pretrained(repo)
        assert str(repo) in str(refusal.value)

    @pytest.mark.parametrize(
        ("loader", "file", "content"),
        [
            (LaVITForCausalLM, "config.json", '{"a":' * 50_000),
            (LaVITForCausalLM, "config.json", '{"model_type": "lavit", "text_config": 5}'),
            (LaVITForCausalLM, "config.json", '{"model_type": "lavit", "text_config": {"num_labels": 1000000000}}'),
            (LaVITForCausalLM, "model.safetensors.index.json", '{"metadata": {}, "weight_map": {"a": 5, "b": "c"}}'),
            (LaVITForCausalLM, "model.safetensors.index.json", "[]"),
            (LaVITVisualTokenizer, "visual_tokenizer.safetensors.index.json", "null"),
            (LaVITProcessor, "tokenizer.json", "{}"),
            (LaVITProcessor, "processor_config.json", "[" * 50_000),
        ],
    )
    def test_json_of_any_form(self, repo, loader, file, content):
        (repo / file).write_text(content)
        with pytest.raises((ValueError, OSError)) as refusal:
            loader.from_pretrained(repo)
        assert str(repo) in str(refusal.value) and len(str(refusal.value)) <= 2000

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
    @pytest.mark.parametrize(
        ("loader", "file"),
        [
            (LaVITProcessor, "tokenizer.json"),
            (LaVITProcessor, "processor_config.json"),
            (LaVITForCausalLM, "config.json"),
            (LaVITForCausalLM, "model.safetensors.index.json"),
            (LaVITVisualTokenizer, "visual_tokenizer.safetensors.index.json"),
            (LaVITImageProcessor, "processor_config.json"),
            (LaVITConfig, "config.json"),
        ],
    )
    def test_files_without_an_end(self, repo, loader, file):
        """Reading them would take forever, or all memory."""
        (repo / file).unlink(missing_ok=True)
        os.mkfifo(repo / file)
        with pytest.raises(CheckpointError, match=rf"{file} is not a regular file"):
            loader.from_pretrained(repo)
        (repo / file).unlink()
        (repo / file).symlink_to("/dev/zero")
        with pytest.raises(CheckpointError, match=rf"{file} is not a regular file"):
            loader.from_pretrained(repo)
        with pytest.raises(CheckpointError, match=rf"{file} is not a regular file"):
            read_json(repo / file)

    def test_truncated_weights(self, repo):
        shard = min(repo.glob("model-*.safetensors"))
        shard.write_bytes(shard.read_bytes()[:-9])
        with pytest.raises((ValueError, OSError), match=shard.name):
            LaVITForCausalLM.from_pretrained(repo)
