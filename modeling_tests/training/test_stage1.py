# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Stage 1, run as a user runs it, on a tiny visual tokenizer and a handful of images."""

import copy
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments


pytest.importorskip("datasets")
pytest.importorskip("vector_quantize_pytorch")

from lavit_hf import (
    LaVITImageProcessor,
    LaVITVisualTokenizer,
    LaVITVisualTokenizerConfig,
    LaVITVisualTokenizerForPreTraining,
)
from lavit_hf.training.codebook_training import CodebookTrainer
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.seeding import SeedPerProcess
from lavit_hf.training.settings import last_checkpoint, load_settings
from training_runs import (
    EXAMPLES,
    SIDE,
    callbacks_of,
    load_script,
    logged,
    run_on_processes,
    run_script,
    weights,
    write_pictures,
    write_run,
    write_tokenizer,
)


ENCODER, CODEBOOK = "visual_tokenizer.encoder.", "visual_tokenizer.quantizer.codebook.weight"
LEARNED_CODEBOOK = "codebook_trainer.quantizer._codebook.embed"


@pytest.fixture(scope="module")
def script():
    return load_script("train_visual_tokenizer")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stage1")
    write_pictures(folder / "pictures", 8)
    return folder


@pytest.fixture(scope="module", params=["ema", "gradient"])
def trained(request, script, data) -> Path:
    """The output of a run of 30 steps, either way of learning the codebook."""
    update = request.param
    model = write_tokenizer(data / f"stage-0-{update}", codebook_update=update)
    run = write_run(
        data / f"run-{update}.yaml",
        model=str(model),
        dataset=str(data / "pictures"),
        validation_split="train",
        max_steps=30,
        per_device_train_batch_size=8,
        learning_rate=3e-3,
        final_selection="threshold",
        final_selection_share=0.3,
        save_strategy="steps",
        save_steps=30,
        eval_strategy="steps",
        eval_steps=30,
    )
    return run_script(script, run)


@pytest.fixture
def start(script, tmp_path):
    """Writes a run of a tiny tokenizer and gives its file."""

    def write(config: dict | None = None, **settings) -> Path:
        write_pictures(tmp_path / "pictures", 12)
        model = write_tokenizer(tmp_path / "stage-0", **(config or {}))
        paths = {"model": str(model), "dataset": str(tmp_path / "pictures")}
        return write_run(tmp_path / "run.yaml", **(paths | settings))

    return write


class TestRun:
    def test_loss_falls(self, trained):
        losses = logged(trained, "reconstruction_loss")
        assert len(losses) == 30
        assert sum(losses[-5:]) < 0.7 * sum(losses[:5])

    def test_what_is_logged(self, trained):
        history = json.loads((trained / "checkpoint-30" / "trainer_state.json").read_text())["log_history"]
        figures = {"reconstruction_loss", "commitment_loss", "ratio_loss", "kept_mean", "kept_min", "kept_max"}
        figures |= {"codebook_usage", "codebook_perplexity"}
        assert figures | {"loss", "grad_norm", "images_per_second"} <= history[0].keys()
        assert {f"eval_{name}" for name in figures} <= history[-1].keys()
        assert all(1 <= entry["kept_min"] <= entry["kept_mean"] <= entry["kept_max"] <= 16 for entry in history[:-1])

    def test_loads_as_a_tokenizer_with_the_learned_codes(self, trained):
        saved = weights(trained)
        tokenizer = LaVITVisualTokenizer.from_pretrained(trained)
        assert torch.equal(tokenizer.quantizer.codebook.weight, saved[LEARNED_CODEBOOK][0])
        assert tokenizer.config.selection == "threshold"
        image_processor = LaVITImageProcessor.from_pretrained(trained)
        assert (image_processor.size["height"], image_processor.size["width"]) == (SIDE, SIDE)

    def test_tokenizer_and_training_model_agree(self, trained):
        pixel_values = torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            used = LaVITVisualTokenizer.from_pretrained(trained).eval()(pixel_values)
            model, loading = LaVITVisualTokenizerForPreTraining.from_pretrained(trained, output_loading_info=True)
            outputs = model.eval()(pixel_values)
        assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert torch.equal(outputs.keep_mask, used.keep_mask)
        assert torch.equal(outputs.codes, torch.cat(used.codes))

    def test_encoder_is_left_alone_and_all_else_learns(self, trained):
        before, after = weights(trained.parent / trained.name.replace("run", "stage-0")), weights(trained)
        changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
        frozen = {name for name in before if name.startswith(ENCODER)}
        assert frozen and not frozen & changed
        # No bias of a key moves a softmax, and Adam makes no more of that than rounding does.
        still = {name for name in before.keys() - frozen - changed if not name.endswith("k_proj.bias")}
        assert not still

    def test_selection_is_switched_for_the_end(self, start, script, monkeypatch):
        used = []
        forward = LaVITVisualTokenizerForPreTraining.forward

        def note(self, *args, **kwargs):
            used.append(self.visual_tokenizer.selector.config.selection)
            return forward(self, *args, **kwargs)

        monkeypatch.setattr(LaVITVisualTokenizerForPreTraining, "forward", note)
        run_script(script, start(final_selection="threshold", final_selection_share=0.5))
        assert used == ["sample", "sample", "threshold", "threshold"]

    def test_processes_draw_other_noise(self, start, script):
        assert SeedPerProcess in callbacks_of(script, start())

    def test_accumulated_gradients_are_refused(self, start, script):
        """They would update the codebook once per part, and square the distance of each part's share."""
        with pytest.raises(TrainingError, match="gradient_accumulation_steps must be 1, got 2"):
            run_script(script, start(gradient_accumulation_steps=2))


class TestFromFeatures:
    def test_same_loss_as_from_pictures(self, data):
        model = LaVITVisualTokenizerForPreTraining.from_pretrained(write_tokenizer(data / "stage-0"))
        model.eval().config.selection = "threshold"
        pixel_values = torch.randn(2, 3, SIDE, SIDE)
        features = model.visual_tokenizer.encode(pixel_values).last_hidden_state
        assert torch.equal(model(pixel_values=pixel_values).loss, model(features=features).loss)
        with pytest.raises(ValueError, match="either pixel_values or features"):
            model(pixel_values, features)

    def test_run_file_at_full_size(self, script, tmp_path):
        arguments = [str(EXAMPLES / "runs" / "7b_visual_tokenizer.yaml"), "--use_cpu", "true", "--tf32", "false"]
        arguments += ["--model", str(tmp_path)]
        settings, training_args = load_settings(script.TokenizerSettings, TrainingArguments, arguments=arguments)
        assert settings.streaming and settings.image_column == "jpg"
        assert 8 * training_args.per_device_train_batch_size == 2048
        assert training_args.accelerator_config.dispatch_batches is False

    def test_streaming(self, start, script):
        output = run_script(script, start(streaming=True, save_strategy="steps", save_steps=4))
        assert len(logged(output)) == 4


class TestModel:
    @pytest.fixture
    def model(self, tmp_path):
        return LaVITVisualTokenizerForPreTraining.from_pretrained(write_tokenizer(tmp_path)).train()

    def test_encoder_stays_in_eval_mode(self, model):
        assert model.training and model.visual_tokenizer.selector.training
        assert not any(module.training for module in model.visual_tokenizer.encoder.modules())
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        assert frozen == {CODEBOOK} | {name for name, _ in model.named_parameters() if name.startswith(ENCODER)}

    def test_gradient_reaches_every_trained_part(self, model):
        model(torch.randn(4, 3, SIDE, SIDE)).loss.backward()
        tokenizer = model.visual_tokenizer
        trained = {
            "selector": tokenizer.selector,
            "merger": tokenizer.merger,
            "projection in": tokenizer.quantizer.input_projection,
            "projection out": tokenizer.quantizer.output_projection,
            "detokenizer": model.detokenizer,
        }
        for name, part in trained.items():
            assert all(parameter.grad is not None for parameter in part.parameters()), name
            assert any(parameter.grad.abs().max() > 0 for parameter in part.parameters()), name
        assert all(parameter.grad is None for parameter in tokenizer.encoder.parameters())
        assert tokenizer.quantizer.codebook.weight.grad is None

    def test_gradient_checkpointing_changes_nothing(self, model):
        pixel_values = torch.randn(4, 3, SIDE, SIDE)
        saving = copy.deepcopy(model)
        saving.gradient_checkpointing_enable()
        for copied in (model, saving):
            torch.manual_seed(0)
            copied(pixel_values).loss.backward()
        for (name, parameter), saved in zip(model.named_parameters(), saving.parameters()):
            assert (parameter.grad is None) == (saved.grad is None), name
            assert parameter.grad is None or torch.equal(parameter.grad, saved.grad), name

    def test_loss_is_the_weighted_sum(self, model):
        model.config.ratio_loss_weight, model.config.image_ratio_loss_weight = 3.0, 0.5
        model.config.commitment_loss_weight = 0.7
        outputs = model(torch.randn(4, 3, SIDE, SIDE))
        kept = outputs.keep_mask.float().mean(dim=1)
        torch.testing.assert_close(outputs.ratio_loss, (kept.mean() - 1 / 3).square())
        torch.testing.assert_close(outputs.image_ratio_loss, (kept - 1 / 3).square().mean())
        expected = outputs.reconstruction_loss + 3 * outputs.ratio_loss
        expected = expected + 0.5 * outputs.image_ratio_loss + 0.7 * outputs.commitment_loss
        torch.testing.assert_close(outputs.loss, expected)

    @pytest.mark.parametrize("first", [4.0, -4.0])
    def test_ratio_loss_pulls_the_kept_share_to_its_target(self, model, first):
        """From nearly all or nearly none kept, by the ratio loss alone."""
        with torch.no_grad():
            model.visual_tokenizer.selector.classifier[-1].bias.copy_(torch.tensor([first, -first]))
        optimizer = torch.optim.Adam(model.visual_tokenizer.selector.parameters(), lr=0.02)
        torch.manual_seed(0)
        pixel_values = torch.randn(8, 3, SIDE, SIDE)
        features = model.visual_tokenizer.encode(pixel_values).last_hidden_state
        kept = []
        for _ in range(60):
            optimizer.zero_grad()
            outputs = model(features=features)
            outputs.ratio_loss.backward()
            optimizer.step()
            kept.append(outputs.keep_mask.float().mean())
        assert abs(kept[0] - 1 / 3) > 0.2
        assert abs(torch.stack(kept[-10:]).mean() - 1 / 3) < 0.08

    def test_needs_a_feature_decoder(self):
        with pytest.raises(ValueError, match="Set detokenizer_config"):
            LaVITVisualTokenizerForPreTraining(LaVITVisualTokenizerConfig())

    def test_a_plain_tokenizer_starts_without_a_codebook(self, tmp_path):
        """Nothing of what `CodebookTrainer` holds is in such a repo, nor left to chance."""
        path = write_tokenizer(tmp_path / "stage-0")
        config = LaVITVisualTokenizerConfig.from_pretrained(path)
        plain = LaVITVisualTokenizer.from_pretrained(path)
        plain.save_pretrained(tmp_path / "plain")
        config.save_pretrained(tmp_path / "plain")
        junk = [torch.full((24, 8), 7e9) for _ in range(200)]
        del junk  # what fresh memory then mostly holds
        model = LaVITVisualTokenizerForPreTraining.from_pretrained(tmp_path / "plain")
        assert not model.codebook_trainer.has_started
        assert model.codebook_trainer.codebook.abs().max() == 0
        assert model.codebook_trainer.quantizer.zero == 0
        model.save_pretrained(tmp_path / "again")
        assert torch.equal(weights(tmp_path / "again")[CODEBOOK], plain.quantizer.codebook.weight)


def unit_rows(count: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


class TestCodebook:
    def build(self, update: str = "ema", **kwargs) -> CodebookTrainer:
        config = LaVITVisualTokenizerConfig(
            codebook_size=16, codebook_dim=8, codebook_update=update, codebook_decay=0.8, **kwargs
        )
        trainer = CodebookTrainer(config).train()
        trainer.reset()
        return trainer

    @pytest.mark.parametrize("update", ["ema", "gradient"])
    def test_k_means_start(self, update):
        """As many rows as codes: each becomes a code."""
        torch.manual_seed(0)
        trainer, rows = self.build(update), unit_rows(16)
        assert not trainer.has_started
        quantized, codes, commitment = trainer(rows)
        assert trainer.has_started
        assert sorted(codes.tolist()) == list(range(16))
        torch.testing.assert_close(quantized, rows, atol=1e-4, rtol=0)
        assert commitment < 1e-6

    @pytest.mark.parametrize("update", ["ema", "gradient"])
    def test_learns(self, update):
        torch.manual_seed(0)
        trainer = self.build(update, codebook_restart_threshold=0.0)
        trainer(unit_rows(64, seed=1))
        rows = unit_rows(256, seed=2)
        optimizer = torch.optim.Adam(trainer.parameters(), lr=0.03) if update == "gradient" else None
        commitments = []
        for _ in range(40):
            commitments.append(trainer(rows)[2])
            if optimizer:
                optimizer.zero_grad()
                commitments[-1].backward()
                optimizer.step()
        assert commitments[-1] < 0.8 * commitments[0]

    def test_eval_mode_learns_nothing(self):
        trainer = self.build()
        trainer(unit_rows(64))
        before = trainer.codebook.clone()
        quantized, codes, _ = trainer.eval()(unit_rows(64, seed=1))
        assert torch.equal(trainer.codebook, before)
        assert torch.equal(quantized, before[codes])

    @pytest.mark.parametrize(("threshold", "restarted"), [(0.5, True), (0.0, False)])
    def test_dead_codes_restart(self, threshold, restarted):
        """Rows move to one corner: codes far off die, and restart from the rows only where that is asked for."""
        torch.manual_seed(0)
        trainer = self.build(codebook_restart_threshold=threshold)
        trainer(unit_rows(256))
        corner = unit_rows(1, seed=5)
        rows = torch.nn.functional.normalize(corner + 0.1 * unit_rows(256, seed=6), dim=-1)
        for _ in range(40):
            _, codes, _ = trainer(rows)
        near = (trainer.codebook @ corner.T > 0.9).float().mean()
        assert (near == 1) if restarted else (near < 0.5)
        assert (len(codes.unique()) > 8) is restarted

    def test_gradient_passes_straight_through(self):
        """As if each row were its code, but for its length, which is one."""
        trainer, rows = self.build(), unit_rows(64).requires_grad_()
        quantized, _, _ = trainer(rows)
        quantized.pow(2).sum().backward()
        expected = 2 * quantized.detach()
        along = (expected * rows.detach()).sum(dim=-1, keepdim=True)
        torch.testing.assert_close(rows.grad, expected - along * rows.detach())


class Killed(BaseException):
    """What stops a run and is caught by nobody."""


class TestResume:
    settings = {
        "max_steps": 8,
        "save_strategy": "steps",
        "save_steps": 4,
        "final_selection": "threshold",
        "final_selection_share": 0.25,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 2,
        "weight_decay": 0.05,
    }

    @pytest.mark.slow
    @pytest.mark.parametrize("update", ["ema", "gradient"])
    def test_bit_for_bit(self, start, script, monkeypatch, update):
        """Sampled patches, shuffled images, restarted codes, averages, moments and rates, all as if never cut."""
        # So high that codes restart at every step, from rows drawn at random.
        run = start({"codebook_update": update, "codebook_restart_threshold": 3.0}, **self.settings)
        whole = weights(run_script(script, run))
        cut = run.parent / "cut"
        step = script.LaVITTrainer.training_step

        def kill_at_step_7(trainer, *args, **kwargs):
            if trainer.state.global_step == 6:
                raise Killed
            return step(trainer, *args, **kwargs)

        monkeypatch.setattr(script.LaVITTrainer, "training_step", kill_at_step_7)
        with pytest.raises(Killed):
            run_script(script, run, "--output_dir", str(cut))
        monkeypatch.undo()
        assert last_checkpoint(cut).endswith("checkpoint-4")
        run_script(script, run, "--output_dir", str(cut))
        resumed = weights(cut)
        assert resumed.keys() == whole.keys()
        assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []

    def test_changed_settings_are_refused(self, start, script):
        run = start(**self.settings)
        run_script(script, run)
        with pytest.raises(TrainingError, match=r"final_selection_share \(0\.25 -> 0\.5\)"):
            run_script(script, run, "--final_selection_share", "0.5")
        with pytest.raises(TrainingError, match=r"global_batch_size \(4 -> 8\)"):
            run_script(script, run, "--per_device_train_batch_size", "8")

    @pytest.mark.slow
    def test_killed_by_the_system(self, start, script):
        """The same with a process that is really killed, at whatever it is just doing."""
        run = start(**{**self.settings, "max_steps": 4000, "save_steps": 5, "save_total_limit": 2})
        output = run.with_suffix("")
        process = subprocess.Popen([sys.executable, script.__file__, str(run)], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 300
        while not (output / "checkpoint-10").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        checkpoint = last_checkpoint(output)
        assert checkpoint is not None
        LaVITVisualTokenizerForPreTraining.from_pretrained(checkpoint)


@pytest.mark.slow
class TestTwoProcesses:
    """
    By accelerate on the CPU, with gloo. Patches are kept by rank and codes have started and do not restart, since two
    processes draw other random numbers than one; and no epoch ends in a smaller batch, which two would fill up. What
    differs then is the order in which sums are taken: about 1e-7 of each, which some steps of Adam make up to 1e-5 of.
    """

    settings = {
        "selection": "ratio",
        "max_steps": 6,
        "save_strategy": "steps",
        "save_steps": 3,
        "dataloader_drop_last": True,
    }

    @pytest.fixture(scope="class")
    def run(self, script, tmp_path_factory) -> Path:
        """A run at the global batch of 8, from a tokenizer whose codes have started."""
        folder = tmp_path_factory.mktemp("processes")
        write_pictures(folder / "pictures", 12)
        stage_0 = write_tokenizer(folder / "stage-0", codebook_restart_threshold=0.0)
        settings = {"dataset": str(folder / "pictures"), "per_device_train_batch_size": 8, **self.settings}
        started = run_script(script, write_run(folder / "start.yaml", model=str(stage_0), **settings))
        return write_run(folder / "run.yaml", model=str(started), **settings)

    @pytest.fixture(scope="class")
    def one(self, run, script) -> Path:
        return run_script(script, run)

    @pytest.fixture(scope="class")
    def two(self, run, script) -> Path:
        output = run.parent / "two"
        run_on_processes(script, run, 2, output, "--per_device_train_batch_size=4")
        return output

    def test_same_loss_curve_at_equal_global_batch(self, one, two):
        for name in ("loss", "reconstruction_loss", "ratio_loss", "commitment_loss", "grad_norm"):
            assert logged(two, name) == pytest.approx(logged(one, name), rel=1e-4), name
        expected, found = weights(one), weights(two)
        for name in expected:
            torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=1e-3, msg=name)

    def test_both_took_part(self, two):
        assert {path.name for path in (two / "checkpoint-6").glob("rng_state_*")} == {
            "rng_state_0.pth",
            "rng_state_1.pth",
        }

    def test_another_number_of_processes_goes_on(self, run, script, one, two, tmp_path):
        """Three steps by two processes, three by one."""
        mixed = tmp_path / "mixed"
        shutil.copytree(two, mixed, ignore=shutil.ignore_patterns("checkpoint-6"))
        run_script(script, run, "--output_dir", str(mixed))
        assert logged(mixed) == pytest.approx(logged(one), rel=1e-4)
