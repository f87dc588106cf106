# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The selection phase of stage 1: its gradient, its merger, its threshold and a run of it, on a tiny tokenizer."""

import itertools
import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch


pytest.importorskip("datasets")
pytest.importorskip("vector_quantize_pytorch")

from accelerate import Accelerator

from conftest import tiny_visual_config
from lavit_hf import (
    LaVITConfig,
    LaVITTokenSelectionForPreTraining,
    LaVITVisualTokenizer,
    LaVITVisualTokenizerForPreTraining,
)
from lavit_hf.pixels.grid_positions import grid_positions
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.meters import SelectionMeter, rank_correlation
from lavit_hf.training.selection_gradient import antithetic_gradient, antithetic_masks, neighborhood_errors
from lavit_hf.training.selection_schedule import SelectionWarmUp, calibrate_threshold, find_threshold
from lavit_hf.training.settings import last_checkpoint
from training_runs import (
    SIDE,
    load_script,
    logged,
    run_on_processes,
    run_script,
    weights,
    write_pictures,
    write_run,
    write_tokenizer,
)


ENCODER, QUANTIZER = "visual_tokenizer.encoder.", "visual_tokenizer.quantizer."


@pytest.fixture(scope="module")
def script():
    return load_script("train_token_selection")


@pytest.fixture(scope="module")
def stage_0(tmp_path_factory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("selection"), selector_feature_size=20, selection="threshold")


@pytest.fixture
def model(stage_0) -> LaVITTokenSelectionForPreTraining:
    torch.manual_seed(0)
    return LaVITTokenSelectionForPreTraining.from_pretrained(stage_0).train()


def pictures(number: int = 4) -> torch.Tensor:
    return torch.randn(number, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


class TestGradient:
    """On images of 2 x 2 patches, whose neighborhoods are the whole image."""

    log_odds = torch.tensor([[0.4, -1.2, 2.0, -0.1]])

    @staticmethod
    def errors(masks: torch.Tensor) -> torch.Tensor:
        """Errors by patch that depend on all patches, not one by one: `(..., 4)`."""
        kept = masks.double()
        pairs = kept * kept.roll(1, -1) * torch.tensor([1.0, -2.0, 0.5, 3.0])
        return pairs + kept.sum(dim=-1, keepdim=True).square() / 4 - kept * torch.tensor([2.0, 0.1, 1.0, 0.3])

    def exact(self) -> torch.Tensor:
        """The gradient of the mean error over all 16 masks."""
        log_odds = self.log_odds.double().requires_grad_()
        probs = log_odds.sigmoid()
        masks = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=torch.float64)
        chances = torch.where(masks > 0, probs, 1 - probs).prod(dim=-1)
        (chances * self.errors(masks).sum(dim=-1)).sum().backward()
        return log_odds.grad

    def test_unbiased(self):
        number = 400_000
        log_odds = self.log_odds.expand(number, -1)
        masks = antithetic_masks(log_odds, torch.Generator().manual_seed(0))
        errors = self.errors(masks).sum(dim=-1, keepdim=True).expand(masks.shape)
        draws = antithetic_gradient(log_odds.double(), masks, errors)
        deviation = draws.std(dim=0) / number**0.5
        assert deviation.max() < 0.004 < 0.05 * self.exact().abs().max()
        assert ((draws.mean(dim=0) - self.exact()[0]).abs() < 4 * deviation).all()

    def test_masks_follow_the_probabilities_and_oppose_each_other(self):
        masks = antithetic_masks(self.log_odds.expand(100_000, -1), torch.Generator().manual_seed(0)).float()
        probs = self.log_odds.sigmoid()[0]
        torch.testing.assert_close(masks.mean(dim=1), probs.expand(2, -1), atol=0.006, rtol=0)
        both = (masks[0] * masks[1]).mean(dim=0)
        torch.testing.assert_close(both, (2 * probs - 1).clamp(min=0), atol=0.006, rtol=0)

    def test_neighbourhood_at_the_middle_side_and_corner(self):
        errors = torch.zeros(1, 16)
        errors[0, 0] = 1.0  # the corner of 4 x 4
        around = neighborhood_errors(errors)[0].reshape(4, 4)
        expected = torch.zeros(4, 4)
        expected[:2, :2] = torch.tensor([[9 / 4, 9 / 6], [9 / 6, 1.0]])
        torch.testing.assert_close(around, expected)

    def test_even_errors_weigh_the_same_everywhere(self):
        torch.testing.assert_close(neighborhood_errors(torch.ones(2, 3, 16)), torch.full((2, 3, 16), 9.0))


class TestMerger:
    """Training's form of the merger, which a gradient passes through, and that of inference."""

    @pytest.mark.parametrize("softmax", ["masked", "original"])
    def test_same_rows(self, tiny_tokenizer, softmax):
        merger = tiny_tokenizer(merger_softmax=softmax).merger
        features = torch.randn(4, 16, 32, generator=torch.Generator().manual_seed(0))
        keep_mask = torch.rand(4, 16, generator=torch.Generator().manual_seed(1)) < 0.4
        keep_mask[1] = False
        keep_mask[1, 5] = True  # one kept
        keep_mask[2] = True  # none dropped
        training = keep_mask.float().requires_grad_()
        rows = merger(features, keep_mask)
        torch.testing.assert_close(merger(features, training), rows)
        torch.testing.assert_close(merger.merge_all(features, training)[keep_mask], rows)

    @pytest.mark.parametrize("implementation", ["eager", "sdpa"])
    def test_gradient_is_that_of_the_masked_softmax(self, tiny_tokenizer, implementation):
        """For kept and dropped patches, against differences, which the softmax has in single precision."""
        tokenizer = tiny_tokenizer(merger_softmax="masked")
        features = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(0)).double()
        keep_mask = torch.rand(1, 16, generator=torch.Generator().manual_seed(1)) < 0.4
        weight = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(2)).double()

        def total(mask: torch.Tensor) -> torch.Tensor:
            return (tokenizer.merger.double().merge_all(features, mask) * weight).sum()

        tokenizer.set_attn_implementation(implementation)
        training = keep_mask.double().requires_grad_()
        total(training).backward()
        tokenizer.set_attn_implementation("eager")
        step = 1e-4
        assert training.grad.abs().mean() > 5
        for place in range(16):
            moved = keep_mask.double()
            moved[0, place] += -step if keep_mask[0, place] else step
            with torch.no_grad():
                slope = (total(moved) - total(keep_mask)) / (moved - keep_mask.double()).sum()
            torch.testing.assert_close(training.grad[0, place], slope, atol=0.2, rtol=0.02)


class TestModel:
    def test_what_learns(self, model):
        model(pictures()).loss.backward()
        learns = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
        frozen = {name for name, _ in model.named_parameters() if name.startswith((ENCODER, QUANTIZER))}
        assert learns == {name for name, _ in model.named_parameters()} - frozen
        assert not any(module.training for module in model.visual_tokenizer.encoder.modules())

    @pytest.mark.parametrize("gradient", ["antithetic", "straight_through"])
    def test_rebuilding_teaches_the_selector(self, model, gradient):
        model.config.selection_gradient, model.config.ratio_loss_weight = gradient, 0.0
        model(pictures()).loss.backward()
        assert model.visual_tokenizer.selector.classifier[-1].weight.grad.abs().max() > 1e-6

    def test_warming_up_leaves_the_selector_to_the_ratio(self, model):
        model.config.ratio_loss_weight, model.warming_up = 0.0, True
        model(pictures()).loss.backward()
        assert model.visual_tokenizer.selector.classifier[-1].weight.grad.abs().max() == 0
        assert model.scaffold.input_projection.weight.grad.abs().max() > 0

    def test_guidance_adds_nothing_to_the_loss(self, model):
        outputs = model(pictures())
        expected = outputs.reconstruction_loss + model.config.ratio_loss_weight * outputs.ratio_loss
        torch.testing.assert_close(outputs.loss, expected)

    def test_loss_by_hand(self, model):
        """In evaluation: errors by energy, of the first channels alone."""
        model.eval()
        features = model.visual_tokenizer.encode(pictures()).last_hidden_state
        with torch.no_grad():
            outputs = model(features=features)
            rebuilt = model.reconstruct(features, outputs.keep_mask)
        local = features[..., :20]
        cosines = torch.nn.functional.cosine_similarity(rebuilt, local, dim=-1)
        expected = (local.square().mean(dim=-1) * (1 - cosines)).mean()
        torch.testing.assert_close(outputs.reconstruction_loss, expected)
        torch.testing.assert_close(outputs.complexity, local.square().mean(dim=(1, 2)))
        assert outputs.random_loss != outputs.reconstruction_loss

    def test_other_channels_play_no_part(self, model):
        model.eval()
        features = model.visual_tokenizer.encode(pictures()).last_hidden_state
        changed = torch.cat([features[..., :20], torch.randn_like(features[..., 20:])], dim=-1)
        with torch.no_grad():
            assert torch.equal(model(features=features).loss, model(features=changed).loss)

    def test_rows_are_rebuilt_at_their_places(self, model):
        """The decoder tells the same rows at other places apart."""
        rows, mask = torch.randn(1, 3, 32), torch.ones(1, 3, dtype=torch.bool)
        first = model.scaffold(rows, torch.tensor([[0, 1, 2]]), mask)
        second = model.scaffold(rows, torch.tensor([[5, 9, 15]]), mask)
        assert (first - second).abs().max() > 1e-3

    def test_decoder_starts_with_places_that_tell_how_close_they_are(self, model):
        for embedding in (model.scaffold.place_embedding, model.scaffold.query_embedding):
            assert torch.equal(embedding, grid_positions(16, 32))
        places = torch.nn.functional.normalize(grid_positions(64, 256), dim=-1)
        along_a_row = (places[:8] @ places[0]).tolist()
        along_a_column = (places[::8] @ places[0]).tolist()
        assert along_a_row == pytest.approx(along_a_column)
        assert along_a_row[0] == pytest.approx(1) and min(along_a_row[:4]) == along_a_row[3]
        assert along_a_row[1] > 0.8 > 0.6 > max(along_a_row[4:])

    def test_training_and_inference_form_rebuild_alike(self, model):
        features = model.visual_tokenizer.encode(pictures()).last_hidden_state
        keep_mask = torch.rand(4, 16, generator=torch.Generator().manual_seed(1)) < 0.4
        keep_mask[0] = torch.eye(16, dtype=torch.bool)[3]
        expected = model.reconstruct(features, keep_mask)
        torch.testing.assert_close(model.reconstruct(features, keep_mask.float().requires_grad_()), expected)

    def test_evaluation_draws_nothing_from_the_training(self, model):
        state = torch.get_rng_state()
        model.eval()(pictures())
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("gradient", ["antithetic", "straight_through"])
    @pytest.mark.parametrize("log_odds", [-200.0, 200.0])
    def test_selector_that_keeps_none_or_all(self, model, gradient, log_odds):
        """One patch is kept, or every one, and the gradient stays finite."""
        model.config.selection_gradient = gradient
        with torch.no_grad():
            model.visual_tokenizer.selector.classifier[-1].bias.copy_(torch.tensor([log_odds / 2, -log_odds / 2]))
        outputs = model(pictures())
        outputs.loss.backward()
        assert outputs.keep_mask.sum(dim=1).tolist() == [1 if log_odds < 0 else 16] * 4
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.requires_grad)


class TestBadInput:
    @pytest.mark.parametrize("mode", [True, False])
    def test_blank_sheets_only(self, model, mode):
        outputs = model.train(mode)(torch.ones(4, 3, SIDE, SIDE))
        assert outputs.loss.isfinite()
        assert (outputs.keep_mask.sum(dim=1) >= 1).all()

    def test_blank_sheet_keeps_one_patch(self, model):
        model.eval().config.keep_threshold = 1 - 1e-6
        kept = LaVITVisualTokenizer.forward(model.visual_tokenizer, torch.ones(2, 3, SIDE, SIDE)).keep_mask
        assert kept.sum(dim=1).tolist() == [1, 1]

    @pytest.mark.parametrize("ratio", [0.0, 1.0])
    def test_keep_ratio(self, ratio):
        with pytest.raises(ValueError, match="keep_ratio must lie"):
            LaVITTokenSelectionForPreTraining(
                tiny_visual_config(keep_ratio=ratio, detokenizer_config={"hidden_size": 32})
            )

    def test_selector_of_the_understanding_branch(self):
        with pytest.raises(ValueError, match="do not set selector_feature_size"):
            LaVITConfig(
                visual_tokenizer_config=tiny_visual_config(selector_feature_size=20),
                text_config={"model_type": "llama", "vocab_size": 100, "hidden_size": 32, "num_attention_heads": 2},
                understanding_selector=True,
            )

    def test_needs_the_decoders_sizes(self):
        with pytest.raises(ValueError, match="detokenizer_config"):
            LaVITTokenSelectionForPreTraining(tiny_visual_config())

    def test_more_channels_than_there_are(self):
        with pytest.raises(ValueError, match="between 1 and the 32 channels of the features, got 33"):
            tiny_visual_config(selector_feature_size=33)

    def test_images_that_look_alike(self, model, caplog):
        """All patches equally likely: it says so, and takes what is nearest."""
        with torch.no_grad():
            model.visual_tokenizer.selector.classifier[-1].weight.zero_()
        with caplog.at_level(logging.WARNING):
            calibrate_threshold(model, [{"pixel_values": pictures()}], 1 / 3)
        assert "no threshold keeps 0.33 of the patches; the nearest keeps 1.00" in caplog.text
        assert 0 < model.config.keep_threshold < 1

    def test_nothing_to_calibrate_by(self, model):
        with pytest.raises(TrainingError, match="no images to calibrate"):
            calibrate_threshold(model, [], 1 / 3)


class TestThreshold:
    @pytest.mark.parametrize("ratio", [0.1, 1 / 3, 0.8])
    def test_wanted_mean(self, model, ratio):
        batch = pictures(32)
        was = model.training
        calibrate_threshold(model, [{"pixel_values": batch[:16]}, {"pixel_values": batch[16:]}], ratio)
        assert model.training is was and model.config.selection == "threshold"
        with torch.no_grad():
            kept = model.eval().visual_tokenizer(batch).keep_mask
        assert kept.float().mean().item() == pytest.approx(ratio, abs=1.01 / kept.numel())

    def test_between_two_values(self):
        threshold, share = find_threshold(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), 0.5)
        assert 0.2 < threshold < 0.8 and share == 0.5

    def test_extreme_probabilities(self):
        for value, expected in ((0.0, 1 / 8), (1.0, 1)):
            threshold, share = find_threshold(torch.full((3, 8), value), 0.5)
            assert 0 < threshold < 1 and share == expected

    def test_images_that_would_keep_none_count(self):
        """Of 100 images one patch of 10 is kept whatever the threshold; so 0.2 is reached by 100 more, not by 200."""
        probs = torch.rand(100, 10, generator=torch.Generator().manual_seed(0)) / 2
        threshold, share = find_threshold(probs, 0.2)
        kept = (probs > threshold).sum(dim=1).clamp(min=1)
        assert share == pytest.approx(0.2, abs=0.001) and kept.float().mean().item() == pytest.approx(2, abs=0.01)


class TestMeter:
    def test_rank_correlation(self):
        first = torch.tensor([1.0, 2.0, 3.0, 4.0])
        assert rank_correlation(first, first.exp()).item() == pytest.approx(1)
        assert rank_correlation(first, -first).item() == pytest.approx(-1)
        # By hand: ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4.
        tied = rank_correlation(torch.tensor([1.0, 2.0, 2.0, 5.0]), torch.tensor([1.0, 9.0, 4.0, 10.0]))
        assert tied.item() == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
        assert rank_correlation(first, torch.ones(4)).item() == 0

    def test_figures(self):
        meter = SelectionMeter()
        assert meter.compute(Accelerator(cpu=True)) == {}
        for kept in ([4, 8], [6, 2]):
            outputs = {
                "ratio_loss": torch.tensor(0.5),
                "keep_probs": torch.tensor([[0.5, 0.05, 0.95, 0.3]] * 2),
                "keep_mask": torch.arange(16) < torch.tensor(kept)[:, None],
                "complexity": torch.tensor(kept).float() ** 2,
            }
            meter.update({"features": torch.zeros(2)}, _Outputs(outputs))
        figures = meter.compute(Accelerator(cpu=True))
        assert figures["kept_mean"] == 5 and figures["kept_std"] == pytest.approx(5**0.5)
        assert figures["undecided_share"] == 0.5 and figures["kept_to_complexity"] == pytest.approx(1)
        assert figures["ratio_loss"] == 0.5

    def test_selector_worse_than_random_says_so_once(self, caplog):
        warm_up = SelectionWarmUp(SimpleNamespace(warming_up=False), steps=5)
        worse = {"eval_reconstruction_loss": 0.5, "eval_random_loss": 0.4}
        better = {"eval_reconstruction_loss": 0.4, "eval_random_loss": 0.5}
        with caplog.at_level(logging.WARNING):
            for step, logs in ((5, worse), (8, better), (10, worse), (15, worse), (16, {"loss": 1.0})):
                state = SimpleNamespace(global_step=step, is_world_process_zero=True)
                warm_up.on_log(None, state, None, logs=logs)
        assert [record.getMessage()[:91] for record in caplog.records] == [
            "after step 10, the selector's patches reconstruct worse than the same number of random ones"
        ]


class _Outputs(dict):
    __getattr__ = dict.__getitem__


class Killed(BaseException):
    """What stops a run and is caught by nobody."""


class TestRun:
    settings = {
        "max_steps": 8,
        "random_mask_steps": 3,
        "save_strategy": "steps",
        "save_steps": 4,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "validation_split": "train",
        "num_pictures": 2,
    }

    @pytest.fixture
    def start(self, tmp_path):
        def write(**settings) -> Path:
            write_pictures(tmp_path / "pictures", 12)
            model = write_tokenizer(tmp_path / "stage-0", selector_feature_size=20)
            pictures = str(tmp_path / "pictures")
            paths = {"model": str(model), "dataset": pictures, "validation_dataset": pictures}
            return write_run(tmp_path / "run.yaml", **(paths | self.settings | settings))

        return write

    @pytest.mark.slow
    @pytest.mark.parametrize("gradient", ["antithetic", "straight_through"])
    def test_resumes_bit_for_bit(self, start, script, monkeypatch, gradient):
        run = start(selection_gradient=gradient)
        whole = weights(run_script(script, run))
        step = script.LaVITTrainer.training_step

        def kill_at_step_7(trainer, *args, **kwargs):
            if trainer.state.global_step == 6:
                raise Killed
            return step(trainer, *args, **kwargs)

        cut = run.parent / "cut"
        monkeypatch.setattr(script.LaVITTrainer, "training_step", kill_at_step_7)
        with pytest.raises(Killed):
            run_script(script, run, "--output_dir", str(cut))
        monkeypatch.undo()
        assert last_checkpoint(cut).endswith("checkpoint-4")
        run_script(script, run, "--output_dir", str(cut))
        resumed = weights(cut)
        assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []

    def test_accumulated_gradients_are_refused(self, start, script):
        with pytest.raises(TrainingError, match="gradient_accumulation_steps must be 1, got 2"):
            run_script(script, start(gradient_accumulation_steps=2))

    def test_what_it_leaves(self, start, script):
        run = start()
        output = run_script(script, run)
        history = json.loads((output / "checkpoint-8" / "trainer_state.json").read_text())["log_history"]
        figures = {"reconstruction_loss", "ratio_loss", "kept_mean", "kept_std", "undecided_share"}
        figures |= {"kept_to_complexity"}
        assert figures | {"images_per_second"} <= history[0].keys()
        assert {f"eval_{name}" for name in figures | {"random_loss"}} <= history[-1].keys()
        assert {path.name for path in (output / "samples").iterdir()} == {"step-00000004.png", "step-00000008.png"}

        tokenizer, loading = LaVITVisualTokenizer.from_pretrained(output, output_loading_info=True)
        assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert tokenizer.config.selection == "threshold"
        saved = weights(output)
        before = weights(run.parent / "stage-0")
        name = "visual_tokenizer.selector.in_proj.weight"
        assert torch.equal(tokenizer.selector.input_projection.weight, saved[name])
        assert not torch.equal(saved[name], before[name])
        untouched = [name for name in before if name.startswith((ENCODER, QUANTIZER))]
        assert all(torch.equal(saved[name], before[name]) for name in untouched)

    def test_phase_two_starts_from_it(self, start, script):
        output = run_script(script, start())
        model, loading = LaVITVisualTokenizerForPreTraining.from_pretrained(output, output_loading_info=True)
        assert all(name.startswith("detokenizer.") for name in loading["missing_keys"])
        assert not loading["unexpected_keys"] and not loading["mismatched_keys"]
        first = LaVITTokenSelectionForPreTraining.from_pretrained(output)
        with torch.no_grad():
            kept = first.eval()(pictures()).keep_mask
            assert torch.equal(model.eval()(pictures()).keep_mask, kept)

    @pytest.mark.slow
    def test_two_processes(self, start, script, tmp_path):
        """Each draws masks of its own, both learn what one process learns, and a cut run goes on."""
        run, output = start(), tmp_path / "two"
        alone = logged(run_script(script, run))
        run_on_processes(script, run, 2, output, "--per_device_train_batch_size=2")
        states = [torch.load(output / "checkpoint-8" / f"rng_state_{rank}.pth", weights_only=False) for rank in (0, 1)]
        assert not torch.equal(states[0]["cpu"], states[1]["cpu"])
        assert logged(output) == pytest.approx(alone, rel=0.01)
        shutil.rmtree(output / "checkpoint-8")
        whole = weights(output)
        run_on_processes(script, run, 2, output, "--per_device_train_batch_size=2")
        resumed = weights(output)
        assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []

    @pytest.mark.slow
    def test_errors_fall(self, start, script):
        output = run_script(
            script, start(max_steps=40, learning_rate=3e-3, per_device_train_batch_size=12, save_steps=40)
        )
        losses = logged(output, "reconstruction_loss")
        assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
