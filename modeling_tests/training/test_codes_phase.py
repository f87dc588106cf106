# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Stage 1, phase 2: codes and their places, with the selection of phase 1."""

import json

import pytest
import torch


pytest.importorskip("datasets")
pytest.importorskip("vector_quantize_pytorch")

from safetensors.torch import save_file

from lavit_hf import (
    LaVITImageProcessor,
    LaVITTokenSelectionForPreTraining,
    LaVITVisualTokenizer,
    LaVITVisualTokenizerForPreTraining,
)
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.modeling_visual_tokenizer_pretraining import shuffle_patches
from training_runs import SIDE, load_script, logged, run_script, weights, write_pictures, write_run, write_tokenizer


SELECTOR = "visual_tokenizer.selector."


def pictures(number: int = 4) -> torch.Tensor:
    return torch.randn(number, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def write_selection(folder, num_place_layers: int = 1, **settings):
    """What phase 1 leaves behind, untrained."""
    stage_0 = LaVITVisualTokenizerForPreTraining.from_pretrained(write_tokenizer(folder / "stage-0", **settings))
    stage_0.config.detokenizer_config.num_place_layers = num_place_layers
    torch.manual_seed(0)
    stage_0.config.selection = "threshold"
    model = LaVITTokenSelectionForPreTraining(stage_0.config)
    model.visual_tokenizer.load_state_dict(stage_0.visual_tokenizer.state_dict())
    model.save_pretrained(folder / "selection")
    LaVITImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder / "selection")
    return folder / "selection"


@pytest.fixture
def model(tmp_path) -> LaVITVisualTokenizerForPreTraining:
    torch.manual_seed(0)
    return LaVITVisualTokenizerForPreTraining.from_pretrained(write_selection(tmp_path)).train()


class TestFrozenSelection:
    def test_stays_whatever_is_loaded_or_switched(self, model):
        model.freeze_selection()
        model.eval().train()
        model(pictures()).loss.backward()
        assert all(parameter.grad is None for parameter in model.visual_tokenizer.selector.parameters())
        assert model.visual_tokenizer.merger.layers[0].mlp.expansion.weight.grad.abs().max() > 0

    @pytest.mark.parametrize("local", [None, 20])
    def test_what_the_selector_reads_stays_too(self, tmp_path, local):
        path = write_selection(tmp_path, hidden_size=16, selector_feature_size=local)
        model = LaVITVisualTokenizerForPreTraining.from_pretrained(path).train()
        model.freeze_selection()
        learns = {parameter.requires_grad for parameter in model.visual_tokenizer.embedding.parameters()}
        assert learns == {local is not None}

    def test_masks_are_those_of_the_selector(self, model):
        expected = model.visual_tokenizer.eval()(pictures()).keep_mask
        model.freeze_selection()
        assert torch.equal(model.train()(pictures()).keep_mask, expected)


class TestCodebook:
    def test_rows_pass_as_they_are_while_warming_up(self, model):
        model.warming_up = True
        outputs = model(pictures())
        with torch.no_grad():
            kept = model.visual_tokenizer.eval()(pictures())
            rows = [model.visual_tokenizer.quantizer.project(image) for image in kept.merged]
            expected = model.detokenizer(rows).features
        torch.testing.assert_close(outputs.reconstructed, expected)
        assert outputs.codes is None and outputs.commitment_loss == 0
        assert not model.codebook_trainer.has_started

    def test_begins_at_the_centers_of_the_rows(self, model):
        """As many rows as it is told to take; with as many codes as rows, every row is a code."""
        model.config.selection, model.config.keep_count = "count", 3
        batches = [{"pixel_values": pictures(16)[start : start + 4]} for start in range(0, 16, 4)]
        taken = []
        size = model.config.codebook_size
        model.start_codebook((taken.append(batch) or batch for batch in batches), num_rows=size)
        assert model.training and model.codebook_trainer.has_started
        assert len(taken) == -(-size // 12)
        codes = model.codebook_trainer.codebook
        assert torch.equal(model.visual_tokenizer.quantizer.codebook.weight, codes)
        torch.testing.assert_close(codes.norm(dim=-1), torch.ones(size))
        with torch.no_grad():
            merged = [model.visual_tokenizer.eval()(**batch).merged for batch in taken]
            rows = model.visual_tokenizer.quantizer.project(torch.cat([row for batch in merged for row in batch]))
        nearest = (rows @ codes.T).amax(dim=-1)
        assert nearest.mean() > 0.99

    def test_no_images(self, model):
        with pytest.raises(TrainingError, match="no images to initialize the codebook with"):
            model.start_codebook([], num_rows=10)


class TestPlaces:
    def test_loss_and_accuracy_by_hand(self, model):
        model.config.place_loss_weight = 0.7
        model.start_codebook([{"pixel_values": pictures()}], num_rows=8)
        outputs = model.eval()(pictures())
        places = [mask.nonzero()[:, 0] for mask in outputs.keep_mask]
        rows = model.visual_tokenizer(pictures()).quantized
        guessed = model.detokenizer(rows).place_log_probs
        picked = [image[range(len(right)), right] for image, right in zip(guessed, places)]
        torch.testing.assert_close(outputs.place_loss, -torch.cat(picked).mean())
        hits = [image[: len(right)].argmax(dim=-1) == right for image, right in zip(guessed, places)]
        assert outputs.place_accuracy == torch.cat(hits).float().mean()
        weights = {"ratio_loss": model.config.ratio_loss_weight, "place_loss": 0.7}
        expected = outputs.reconstruction_loss + sum(weight * outputs[name] for name, weight in weights.items())
        torch.testing.assert_close(outputs.loss, expected)

    def test_told_places_are_used(self, model):
        model.start_codebook([{"pixel_values": pictures()}], num_rows=8)
        model.eval()
        guessed = model(pictures())
        model.knows_places = True
        told = model(pictures())
        rows = model.visual_tokenizer(pictures()).quantized
        places = [mask.nonzero()[:, 0] for mask in told.keep_mask]
        torch.testing.assert_close(told.reconstructed, model.detokenizer(rows, places=places).features)
        assert (told.reconstructed - guessed.reconstructed).abs().max() > 1e-4

    def test_none_without_a_head(self, tmp_path):
        path = write_selection(tmp_path, num_place_layers=0)
        outputs = LaVITVisualTokenizerForPreTraining.from_pretrained(path).train()(pictures())
        assert outputs.place_loss is None and outputs.place_accuracy is None


class TestFeatureProbe:
    def test_loss_by_hand(self, model):
        """What the probe reads from the encoder's features and from the rebuilt ones must be the same."""
        model.start_codebook([{"pixel_values": pictures()}], num_rows=8)
        before = model.eval()(pictures())
        probe = torch.randn(5, model.config.feature_size, generator=torch.Generator().manual_seed(1))
        model.add_feature_probe(probe, loss_weight=0.3)
        outputs = model(pictures())
        features = model.visual_tokenizer.encode(pictures()).last_hidden_state
        expected = ((outputs.reconstructed - features) @ probe.T).square().mean()
        torch.testing.assert_close(outputs.probe_loss, expected)
        torch.testing.assert_close(outputs.loss, before.loss + 0.3 * expected)
        assert before.probe_loss is None

    def test_is_neither_trained_nor_saved(self, model, tmp_path):
        probe = torch.randn(5, model.config.feature_size)
        model.add_feature_probe(probe, loss_weight=1.0)
        model(pictures()).loss.backward()
        assert torch.equal(model.feature_probe, probe) and not model.feature_probe.requires_grad
        model.save_pretrained(tmp_path / "saved")
        assert not [name for name in weights(tmp_path / "saved") if "probe" in name]

    @pytest.mark.parametrize("shape", [(5, 7), (8,)])
    def test_of_other_features(self, model, shape):
        with pytest.raises(TrainingError, match=r"must have shape \(num_values, \d+\), got"):
            model.add_feature_probe(torch.zeros(shape), loss_weight=1.0)


class TestShuffledSelection:
    def test_as_many_and_any(self):
        masks = torch.rand(50, 16, generator=torch.Generator().manual_seed(0)) < 0.4
        shuffled = shuffle_patches(masks, torch.Generator().manual_seed(1))
        assert torch.equal(shuffled.sum(dim=1), masks.sum(dim=1))
        overlap = (shuffled & masks).sum() / masks.sum()
        assert 0.3 < overlap < 0.5

    def test_in_training_and_evaluation(self, model):
        model.freeze_selection()
        kept = model.eval()(pictures(8)).keep_mask
        model.patch_choice = lambda masks, features, generator: shuffle_patches(masks, generator)
        for mode in (True, False):
            mask = model.train(mode)(pictures(8)).keep_mask
            assert torch.equal(mask.sum(dim=1), kept.sum(dim=1)) and not torch.equal(mask, kept)


class TestRun:
    @pytest.fixture
    def start(self, tmp_path):
        write_pictures(tmp_path / "pictures", 12)

        def write(name: str = "run", **settings):
            paths = {"dataset": str(tmp_path / "pictures"), "model": str(tmp_path / "selection")}
            paths |= {"freeze_selection": True, "codebook_rows": 40, "codebook_start_step": 3}
            return write_run(tmp_path / f"{name}.yaml", **(paths | settings))

        return write

    def test_codes_begin_at_their_step_and_the_selection_stays(self, start, tmp_path):
        before = weights(write_selection(tmp_path))
        output = run_script(
            load_script("train_visual_tokenizer"), start(max_steps=6, save_steps=6, save_strategy="steps")
        )
        history = json.loads((output / "checkpoint-6" / "trainer_state.json").read_text())["log_history"]
        assert ["codebook_usage" in entry for entry in history if "loss" in entry] == [False] * 3 + [True] * 3
        assert len(logged(output, "place_accuracy")) == 6
        after = weights(output)
        selector = [name for name in before if name.startswith(SELECTOR)]
        assert selector and all(torch.equal(before[name], after[name]) for name in selector)
        assert LaVITVisualTokenizer.from_pretrained(output).config.selection == "threshold"

    @pytest.mark.slow
    def test_codes_begin_in_a_run_that_ends_before_their_step(self, start, tmp_path):
        """As in a trial run of all steps, which goes on from its codes."""
        write_selection(tmp_path)
        script = load_script("train_visual_tokenizer")
        short = run_script(script, start("short", max_steps=2, codebook_start_step=200))
        assert LaVITVisualTokenizerForPreTraining.from_pretrained(short).codebook_trainer.has_started
        run_script(script, start("next", model=str(short), max_steps=1, codebook_rows=None))

    def test_an_evaluation_before_the_first_step_does_not_begin_the_codes(self, start, tmp_path, monkeypatch):
        write_selection(tmp_path)
        begun, begin = [], LaVITVisualTokenizerForPreTraining.start_codebook

        def spy(model, *arguments):
            begun.append(model.codebook_trainer.has_started)
            begin(model, *arguments)

        monkeypatch.setattr(LaVITVisualTokenizerForPreTraining, "start_codebook", spy)
        steps = {"eval_strategy": "steps", "eval_steps": 4}
        run = start(max_steps=4, eval_on_start=True, validation_split="train", **steps)
        run_script(load_script("train_visual_tokenizer"), run)
        assert begun == [False]

    @pytest.mark.slow
    def test_goes_on_from_trained_codes_with_a_probe(self, start, tmp_path):
        """A second run keeps selection and codes of the first, and lets the probe read more than before."""
        size = LaVITTokenSelectionForPreTraining.from_pretrained(write_selection(tmp_path)).config.feature_size
        script = load_script("train_visual_tokenizer")
        first = run_script(script, start("first", max_steps=4, codebook_start_step=0))
        before = weights(first)
        save_file({"weight": torch.eye(size)[:3]}, tmp_path / "probe.safetensors")
        probed = {"feature_probe": str(tmp_path / "probe.safetensors"), "probe_loss_weight": 2.0}
        second = start(
            "second",
            model=str(first),
            max_steps=30,
            save_strategy="steps",
            save_steps=30,
            codebook_rows=None,
            learning_rate=1e-2,
            **probed,
        )
        output = run_script(script, second)
        losses = logged(output, "probe_loss")
        assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
        after = weights(output)
        selector = [name for name in before if name.startswith(SELECTOR)]
        assert selector and all(torch.equal(before[name], after[name]) for name in selector)

    @pytest.mark.slow
    @pytest.mark.parametrize("stopped_after", [2, 3, 4])
    def test_goes_on_as_if_it_had_not_stopped(self, start, tmp_path, stopped_after, monkeypatch):
        """Before, at and after the step at which the codes begin."""
        write_selection(tmp_path)
        script = load_script("train_visual_tokenizer")
        saves = {"max_steps": 6, "save_strategy": "steps", "save_steps": 1}
        whole = run_script(script, start("whole", **saves))
        cut = start("cut", **saves)

        class Killed(Exception):
            pass

        class Kill(script.TrainerCallback):
            def on_step_begin(self, args, state, control, **kwargs):
                if state.global_step == stopped_after:
                    raise Killed

        with monkeypatch.context() as patch:
            make = script.LaVITTrainer
            patch.setattr(script, "LaVITTrainer", lambda *args, **kwargs: make(*args, **kwargs, callbacks=[Kill()]))
            with pytest.raises(Killed):
                run_script(script, cut)
        assert (output := run_script(script, cut)).name == "cut"
        expected = weights(whole)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(output).items())

    def test_without_phase_1(self, start, tmp_path):
        stage_0 = write_tokenizer(tmp_path / "stage-0")
        with pytest.raises(TrainingError, match=r"stage-0 was not written by train_token_selection\.py"):
            run_script(load_script("train_visual_tokenizer"), start(model=str(stage_0)))
