# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`--dtype auto`: the checkpoint's dtype, unless the CPU has no instructions for it and float32 fits."""

from pathlib import PurePosixPath
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from lavit_hf import LaVITForCausalLM, LaVITVisualTokenizer, bundled_checkpoint
from lavit_hf.cli.app import app
from lavit_hf.fast_dtypes import fast_autocast, is_slow
from lavit_hf.tasks.dtypes import choose_dtype
from lavit_hf.tasks.loading import load_language_model, load_visual_tokenizer
from lavit_hf.tasks.options import DType, ModelOptions
from lavit_hf.tasks.repo_files import RepoFiles
from lavit_hf.tasks.whole_model import load_whole_model
from lavit_hf.training.pretokenize_run import load_tokenizer


CPU = torch.device("cpu")
HALF = [torch.bfloat16, torch.float16]


@pytest.fixture
def cpu_with(monkeypatch):
    """Sets what the CPU has instructions for."""

    def choose(*dtypes: torch.dtype) -> None:
        for dtype, name in ((torch.bfloat16, "bf16"), (torch.float16, "fp16")):
            found = dtype in dtypes
            monkeypatch.setattr(torch.ops.mkldnn, f"_is_mkldnn_{name}_supported", lambda found=found: found)

    return choose


@pytest.fixture
def options() -> ModelOptions:
    return ModelOptions(bundled_checkpoint(), "cpu")


class TestIsSlow:
    @pytest.mark.parametrize("dtype", HALF)
    def test_what_the_cpu_lacks(self, cpu_with, dtype):
        cpu_with()
        assert is_slow(dtype, CPU)
        cpu_with(dtype)
        assert not is_slow(dtype, CPU)
        assert all(is_slow(other, CPU) for other in HALF if other is not dtype)

    def test_float32_and_accelerators(self, cpu_with):
        cpu_with()
        assert not is_slow(torch.float32, CPU) and not is_slow(torch.float64, CPU)
        assert not is_slow(torch.bfloat16, torch.device("cuda"))

    def test_without_onednn(self, monkeypatch):
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        assert is_slow(torch.bfloat16, CPU) and not is_slow(torch.float32, CPU)

    @pytest.mark.parametrize(("supported", "dtype"), [((), torch.float32), ((torch.bfloat16,), torch.bfloat16)])
    def test_autocast(self, cpu_with, supported, dtype):
        cpu_with(*supported)
        with fast_autocast(CPU):
            assert torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype is dtype


class TestAuto:
    @pytest.mark.parametrize("load", [load_language_model, load_visual_tokenizer])
    @pytest.mark.parametrize(("supported", "dtype"), [((), torch.float32), (HALF, torch.bfloat16)])
    def test_one_model(self, cpu_with, options, load, supported, dtype):
        cpu_with(*supported)
        assert load(options.model, options).dtype is dtype

    @pytest.mark.parametrize(("supported", "dtype"), [((), torch.float32), (HALF, torch.bfloat16)])
    def test_all_parts(self, cpu_with, options, supported, dtype):
        cpu_with(*supported)
        pipeline = load_whole_model(options).pipeline
        models = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
        assert {part.dtype for part in models} == {dtype}

    @pytest.mark.parametrize("chosen", [DType.bfloat16, DType.float16, DType.float32])
    def test_a_choice_stands(self, cpu_with, options, chosen):
        cpu_with()
        model = load_language_model(options.model, ModelOptions(options.model, "cpu", chosen))
        assert model.dtype is getattr(torch, chosen.value)

    def test_weights_that_do_not_fit(self, cpu_with, options, monkeypatch):
        cpu_with()
        stored = sum(parameter.numel() for parameter in LaVITForCausalLM.from_pretrained(options.model).parameters())
        for total, dtype in ((stored * 4, torch.bfloat16), (stored * 40, torch.float32)):
            monkeypatch.setattr("psutil.virtual_memory", lambda total=total: SimpleNamespace(total=total))
            assert choose_dtype(options.model, CPU) is dtype

    def test_reads_nothing_of_what_it_does_not_load(self, cpu_with, repos, monkeypatch):
        """On the Hub, each file that is read is a request."""
        cpu_with()
        read, read_headers = [], RepoFiles.read_headers
        monkeypatch.setattr(
            RepoFiles, "read_headers", lambda files, name: read.append(name) or read_headers(files, name)
        )
        assert choose_dtype(str(repos["highres"]), CPU) is torch.float32
        assert {PurePosixPath(name).parts[0] for name in read} == {"language_model"}

    @pytest.mark.parametrize(("supported", "dtype"), [((), torch.float32), (HALF, torch.bfloat16)])
    def test_pretokenizing(self, cpu_with, options, supported, dtype):
        cpu_with(*supported)
        settings = SimpleNamespace(visual_tokenizer=options.model, dtype="bfloat16", selection=None)
        assert load_tokenizer(settings).dtype is dtype

    def test_repo_of_a_visual_tokenizer(self, cpu_with, options, tmp_path):
        LaVITVisualTokenizer.from_pretrained(options.model, dtype=torch.bfloat16).save_pretrained(tmp_path)
        cpu_with(*HALF)
        assert choose_dtype(str(tmp_path), CPU) is torch.bfloat16
        cpu_with()
        assert choose_dtype(str(tmp_path), CPU) is torch.float32

    def test_exports_keep_their_dtype(self, cpu_with, options, tmp_path):
        cpu_with()
        result = CliRunner().invoke(app, ["export-llm", str(tmp_path / "llm"), "--model", options.model])
        assert result.exit_code == 0, result.output
        assert '"dtype": "bfloat16"' in (tmp_path / "llm" / "config.json").read_text()
