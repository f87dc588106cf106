# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The dry run of benchmarks/full_size.py, step by step on the small checkpoint."""

import json
import shutil

import pytest
import torch
import typer

from benchmark_scripts import load_benchmark
from lavit_hf import LaVITPipeline
from lavit_hf.conversion import convert_checkpoint
from lavit_hf.conversion.layout import PIXEL_DECODERS
from lavit_hf.conversion.reading import find_weights, read_tensors


CAT = "examples/images/cat.jpg"


@pytest.fixture(scope="module")
def dry_run():
    return load_benchmark("full_size")


@pytest.fixture
def random_original(golden, repos, tmp_path, monkeypatch):
    """The module that writes originals, told that the release is the small one."""
    module = load_benchmark("random_original")
    release, decoders = repos["lowres"] / "language_model", tmp_path / "pixel_decoders"
    for resolution, layout in PIXEL_DECODERS.items():
        configs = shutil.ignore_patterns("*.bin", "*.safetensors")
        shutil.copytree(golden.original / layout.folder, decoders / resolution, ignore=configs)
        shutil.copytree(repos[resolution] / "detokenizer", decoders / resolution / "detokenizer", ignore=configs)
    monkeypatch.setattr(module, "RELEASE", release)
    monkeypatch.setattr(module, "PIXEL_DECODER_CONFIGS", decoders)
    monkeypatch.setattr(module, "read_layout", lambda: layout_of(golden.original, module))
    monkeypatch.setattr(module, "MAX_SHARD_BYTES", 10**6)
    return module


def layout_of(original, module):
    """Names and shapes of an original as `layout_7b.json` has them."""
    files = {file: original / file for file in module.UNDIVIDED_FILES}
    folder, name = module.LANGUAGE_MODEL_FILE.split("/")
    files[module.LANGUAGE_MODEL_FILE] = find_weights(original / folder, [name])
    return {
        file: {key: list(tensor.shape) for key, tensor in read_tensors(path).items()} for file, path in files.items()
    }


@pytest.mark.slow
def test_random_original_is_an_original(random_original, golden, tmp_path):
    size = random_original.write_original(tmp_path / "original", pixel_decoders=list(PIXEL_DECODERS))
    planned = random_original.plan_original(pixel_decoders=list(PIXEL_DECODERS))
    assert size == pytest.approx(2 * random_original.count_values(planned), rel=0.1)  # in fp16
    shards = json.loads((tmp_path / "original" / f"{random_original.LANGUAGE_MODEL_FILE}.index.json").read_text())
    assert len(set(shards["weight_map"].values())) > 1
    for resolution in PIXEL_DECODERS:
        repo = convert_checkpoint(
            tmp_path / "original", tmp_path / resolution, golden.facts["dims"]["heads"], pixel_decoder=resolution
        )
        pipeline = LaVITPipeline.from_pretrained(repo)
        assert pipeline.language_model.dtype == torch.float16
        assert 0 < pipeline.unet.conv_in.weight.std() < 1


def test_fewer_layers(random_original):
    whole, one = random_original.plan_original(), random_original.plan_original(layers=1)
    names = set(whole[random_original.LANGUAGE_MODEL_FILE]) - set(one[random_original.LANGUAGE_MODEL_FILE])
    assert names and all(name.startswith("model.layers.1.") for name in names)


def test_full_size(dry_run):
    """What the release's own page says: about 26 GB."""
    assert 2 * dry_run.count_values(dry_run.plan_original(pixel_decoders=list(PIXEL_DECODERS))) == pytest.approx(
        26e9, rel=0.05
    )


class TestSteps:
    @pytest.fixture(scope="class")
    def codes(self, dry_run, repos):
        return dry_run.tokenize(repos["highres"], CAT)["codes"]

    @pytest.mark.parametrize("how", ["8 bits", "16 bits", "from disk"])
    def test_read(self, dry_run, repos, codes, tmp_path, how):
        if how == "8 bits":
            pytest.importorskip("bitsandbytes")
        arguments = (repos["highres"], CAT, how, 4, "1MB", tmp_path)
        step = dry_run.measure(f"read, {how}", dry_run.read, arguments)
        assert step.facts["codes"] == codes
        assert step.facts["token"] > 0 and step.facts["first"] + step.facts["loading"] < step.seconds
        assert step.facts["weights"] < step.own <= step.resident

    def test_paint(self, dry_run, repos, codes):
        step = dry_run.measure("generate an image", dry_run.paint, (repos["highres"], codes, 1))
        assert all(size >= 0 for size in step.facts["work"].values())
        assert step.facts["weights"] > 0

    def test_tables(self, dry_run, repos, capsys):
        parts = dry_run.measure_parts(dry_run.open_repo(str(repos["highres"])))
        steps = [
            dry_run.Step("read, 8 bits", 10.0, 2 * 10**9, 3 * 10**9, {"weights": 10**7, "codes": [1], "token": 0.5}),
            dry_run.Step(
                "generate an image, 1 steps", 20.0, 2 * 10**9, 3 * 10**9, {"weights": 10**7, "work": {"VAE": 10**9}}
            ),
        ]
        for show in (dry_run.print_steps, dry_run.print_work):
            show(steps)
        dry_run.print_weights(steps, parts)
        dry_run.print_checks(steps, repos["highres"])
        output = capsys.readouterr().out
        assert "| read, 8 bits | 10 |  |  | 0.5 | 2.0 | 3.0 |" in output
        assert "| VAE | 1.0 |" in output
        assert "codes of read, 8 bits: the same" in output
        assert "layers: 2, not 32" in output


class TestBadInput:
    @pytest.mark.slow
    def test_full_disk(self, dry_run, tmp_path, monkeypatch):
        usage = shutil.disk_usage(tmp_path)._replace(free=10**9)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(typer.BadParameter, match="has 1 GB free"):
            dry_run.main(folder=tmp_path / "new", layers=1)
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"decoder": "huge"}, "highres or lowres"), ({"read_in": ["2 bits"]}, "not 2 bits")],
    )
    def test_unknown(self, dry_run, tmp_path, options, message):
        with pytest.raises(typer.BadParameter, match=message):
            dry_run.main(folder=tmp_path / "new", **options)
        assert not (tmp_path / "new").exists()
