# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The pixel decoder learns, goes on after a kill, and saves what the pipeline paints with."""

import math
import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml
from datasets import Dataset, DatasetDict, Image
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from PIL import Image as PilImage
from safetensors.torch import load_file

from lavit_hf import (
    LaVITDetokenizer,
    LaVITPipeline,
    LaVITVisualTokenizerConfig,
    LaVITVisualTokenizerForPreTraining,
    PatchAutoencoder,
)
from lavit_hf.lavit.image_loading import MAX_SIDE
from lavit_hf.training.ema import EMA_NAME
from lavit_hf.training.errors import TrainingError
from lavit_hf.training.modeling_pixel_decoder_training import LaVITPixelDecoderForTraining
from lavit_hf.training.pixel_data import (
    Collator,
    PairedRows,
    cache_latents,
    pair_rows,
    read_codes,
    read_features,
    read_latents,
    read_pixels,
)
from tiny_pixels import (
    CODEBOOK_DIM,
    CODEBOOK_SIZE,
    FIRST_CODE,
    NUM_PATCHES,
    tiny_detokenizer,
    tiny_processor,
    tiny_unet,
    tiny_vae,
)
from training_runs import EXAMPLES, load_script, run_script, weights, write_pictures, write_run, write_tokenizer


EXACT = {"rtol": 0, "atol": 0}
CODES = torch.tensor([[3, 1, 4, 1, *[-1] * 12], [5, *[-1] * 15], [9, 2, 6, *[-1] * 13], [23, 0, *[-1] * 14]])
FORMS = {"lowres": {}, "highres": {"highres": True}, "map": {"sees_map": True}}
ZERO_SNR = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}


def emoji_scheduler() -> dict:
    return yaml.safe_load((EXAMPLES / "runs" / "emoji_pixel_decoder.yaml").read_text())["scheduler"]


def tiny_model(
    highres: bool = False, scheduler: dict | None = None, sees_map: bool = False, **settings
) -> LaVITPixelDecoderForTraining:
    torch.manual_seed(0)
    detokenizer = tiny_detokenizer(highres)
    detokenizer.set_codebook(torch.randn(CODEBOOK_SIZE, CODEBOOK_DIM))
    schedule = DDIMScheduler(**{"clip_sample": False, **(scheduler or {})})
    return LaVITPixelDecoderForTraining(tiny_unet(highres, sees_map), detokenizer, tiny_vae(), schedule, **settings)


def paint_with(model: LaVITPixelDecoderForTraining) -> LaVITPipeline:
    pipeline = LaVITPipeline(None, tiny_processor(), model.detokenizer, model.unet, model.vae, model.scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture
def calls(monkeypatch):
    """What the U-Net is called with."""
    calls, forward = [], UNet2DConditionModel.forward

    def record(self, sample, timestep, **kwargs):
        calls.append(kwargs | {"condition_map": sample[:, self.config.out_channels :]})
        return forward(self, sample, timestep, **kwargs)

    monkeypatch.setattr(UNet2DConditionModel, "forward", record)
    return calls


class TestLoss:
    @pytest.mark.parametrize(
        "form, prediction", [("lowres", "epsilon"), ("highres", "v_prediction"), ("map", "epsilon")]
    )
    def test_falls(self, form, prediction):
        model = tiny_model(**FORMS[form], scheduler={"prediction_type": prediction})
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=5e-3)
        pictures = torch.rand(4, 3, 16, 16) * 2 - 1
        before = model.eval()(pixel_values=pictures, codes=CODES).loss
        for _ in range(10):
            optimizer.zero_grad()
            model.train()(pixel_values=pictures, codes=CODES).loss.backward()
            optimizer.step()
        assert model.eval()(pixel_values=pictures, codes=CODES).loss < 0.9 * before

    @pytest.mark.parametrize("highres", [False, True])
    def test_what_is_trained(self, highres):
        model = tiny_model(highres).train()
        model(pixel_values=torch.rand(4, 3, 16, 16), codes=CODES).loss.backward()
        trained = {name for name, weight in model.named_parameters() if weight.grad is not None}
        assert trained == {name for name, weight in model.named_parameters() if weight.requires_grad}
        assert all(f"unet.{name}" in trained for name, _ in model.unet.named_parameters())
        condition = {name for name in trained if not name.startswith("unet.")}
        parts = ("detokenizer.condition_projections.", *(("detokenizer.pooler.",) if highres else ()))
        assert condition and all(name.startswith(parts) for name in condition)

    def test_frozen_parts_are_never_in_train_mode(self, tiny_tokenizer):
        model = tiny_model(visual_tokenizer=tiny_tokenizer()).train()
        assert model.unet.training
        for part in (model.detokenizer, model.vae, model.visual_tokenizer):
            assert not any(module.training for module in part.modules())

    def test_evaluation_draws_nothing(self):
        model, pictures = tiny_model().eval(), torch.rand(4, 3, 16, 16)
        state = torch.random.get_rng_state()
        first = model(pixel_values=pictures, codes=CODES).loss
        assert torch.equal(first, model(pixel_values=pictures, codes=CODES).loss)
        assert torch.equal(state, torch.random.get_rng_state())

    def test_min_snr_bounds_the_weights(self):
        """Without a bound that bites, the noise loss is the plain one, and the velocity loss that of the images."""
        pictures = torch.rand(4, 3, 16, 16)
        free = tiny_model(min_snr_gamma=math.inf).eval()(pixel_values=pictures, codes=CODES)
        torch.testing.assert_close(free.loss, free.denoising_loss)
        bounded = tiny_model(min_snr_gamma=1.0).eval()(pixel_values=pictures, codes=CODES)
        torch.testing.assert_close(bounded.denoising_loss, free.denoising_loss)
        assert bounded.loss < free.loss


class TestCondition:
    @pytest.mark.parametrize("form", FORMS)
    def test_dropped_is_what_the_pipeline_leads_away_from(self, calls, form):
        model = tiny_model(**FORMS[form], condition_dropout=1.0).train()
        latents = torch.randn(4, 4, 8, 8)
        model(latents=latents, codes=CODES)
        self.paint(model, latents)
        trained, painted = calls
        self.compare(trained, painted, slice(0, 4))

    @pytest.mark.parametrize("form", FORMS)
    def test_kept_is_what_the_pipeline_paints_from(self, calls, form):
        model = tiny_model(**FORMS[form]).eval()
        latents = torch.randn(4, 4, 8, 8)
        model(latents=latents, codes=CODES)
        self.paint(model, latents)
        trained, painted = calls
        self.compare(trained, painted, slice(4, 8))

    def test_some_are_dropped(self, calls):
        model = tiny_model(condition_dropout=0.5).train()
        model(latents=torch.randn(64, 4, 8, 8), codes=CODES.repeat(16, 1))
        is_dropped = ~calls[0]["encoder_attention_mask"].all(dim=1)
        assert 10 < is_dropped.sum() < 54
        rows = calls[0]["encoder_hidden_states"]
        assert (rows[is_dropped] == rows[is_dropped][0]).all()
        assert not (rows[~is_dropped] == rows[is_dropped][0]).all(dim=(1, 2)).any()

    def paint(self, model, latents):
        ids = [row[row >= 0] + FIRST_CODE for row in CODES]
        paint_with(model)(image_token_ids=ids, latents=latents, num_inference_steps=1, output_type="latent")

    def compare(self, trained, painted, side):
        """Every input of the U-Net in training with one side of those in painting."""
        for name in ("encoder_hidden_states", "condition_map"):
            torch.testing.assert_close(trained[name], painted[name][side])
        mask = painted["encoder_attention_mask"]
        if mask is not None:
            assert torch.equal(trained["encoder_attention_mask"], mask[side])
        for name, tensor in (painted["added_cond_kwargs"] or {}).items():
            torch.testing.assert_close(trained["added_cond_kwargs"][name], tensor[side])

    def test_map_has_every_row_in_its_place(self, calls):
        model = tiny_model(sees_map=True, condition="features").eval()
        features = torch.randn(2, NUM_PATCHES, 16)
        rows = model.encode_condition(features=features).prompt_embeds
        model(latents=torch.randn(2, 4, 4, 4), features=features)
        torch.testing.assert_close(calls[0]["condition_map"].permute(0, 2, 3, 1).flatten(1, 2), rows)

    def test_map_covers_pictures_of_any_size(self, calls):
        pipeline = paint_with(tiny_model(sees_map=True))
        ids = [torch.tensor([FIRST_CODE + 3, FIRST_CODE])]
        picture = pipeline(image_token_ids=ids, height=24, width=8, num_inference_steps=1).images[0]
        assert picture.size == (8, 24)
        assert calls[0]["condition_map"].shape == (2, 20, 12, 4)

    def test_codes_features_and_images_meet(self, tiny_tokenizer):
        """What is read of an image conditions as its codes do."""
        tokenizer = tiny_tokenizer(selection="threshold")
        model = tiny_model(visual_tokenizer=tokenizer).eval()
        model.detokenizer.set_codebook(tokenizer.quantizer.codebook.weight)
        images = torch.randn(2, 3, 32, 32)
        outputs = tokenizer(images)
        padded = torch.stack([torch.cat([row, row.new_full((16 - len(row),), -1)]) for row in outputs.codes])
        expected = model.encode_condition(codes=padded).prompt_embeds
        for given in ({"images": images}, {"features": outputs.last_hidden_state}):
            torch.testing.assert_close(model.encode_condition(**given).prompt_embeds, expected)

    def test_features_rebuilt_before(self):
        """What `emoji/rebuild_features.py` saves conditions as the codes do, within fp16."""
        expected = tiny_model().eval().encode_condition(codes=CODES).prompt_embeds
        model = tiny_model(condition="features").eval()
        codes = [[code for code in row if code != -1] for row in CODES.tolist()]
        origin = {"row": [0] * 4, "view": [*range(4)]}
        pictures = Dataset.from_dict({"image": [b"picture"] * 4, **origin})
        rebuild = load_script("emoji/rebuild_features")
        rows = PairedRows(pictures, Dataset.from_dict({"codes": codes}))
        rows = list(rebuild.rebuild_rows(rows, range(4), model.detokenizer, batch_size=3))
        assert [row["view"] for row in rows] == [0, 1, 2, 3] and rows[0]["image"] == b"picture"
        features = read_features(rows, "features", width=model.detokenizer.config.feature_size)
        torch.testing.assert_close(
            model.encode_condition(features=features).prompt_embeds, expected, rtol=2e-2, atol=2e-2
        )

    def test_true_features(self):
        model, features = tiny_model(condition="features"), torch.randn(2, 16, 16)
        expected = model.detokenizer.project_condition(features)
        assert torch.equal(model.encode_condition(features=features).prompt_embeds, expected)


class TestSchedule:
    @pytest.mark.parametrize(
        "scheduler",
        [{}, {"prediction_type": "v_prediction"}, ZERO_SNR, emoji_scheduler()],
        ids=["epsilon", "velocity", "zero-snr", "emoji"],
    )
    def test_a_perfect_prediction_has_no_loss_and_paints_the_picture(self, tmp_path, monkeypatch, scheduler):
        model = tiny_model(scheduler=scheduler, condition_dropout=0)
        model.scheduler.save_pretrained(tmp_path)
        model.scheduler = DDIMScheduler.from_pretrained(tmp_path)
        latents = torch.randn(4, 4, 8, 8)

        def predict(sample, timestep, **kwargs):
            kept = model.scheduler.alphas_cumprod[timestep].reshape(-1, 1, 1, 1)
            noise = (sample - kept.sqrt() * latents) / (1 - kept).sqrt()
            is_epsilon = model.scheduler.config.prediction_type == "epsilon"
            return [noise if is_epsilon else kept.sqrt() * noise - (1 - kept).sqrt() * latents]

        monkeypatch.setattr(model.unet, "forward", predict)
        assert model.train()(latents=latents, codes=CODES).loss < 1e-6
        condition = model.encode_condition(codes=CODES)
        painted = paint_with(model).denoise(torch.randn(4, 4, 8, 8), condition, 10, guidance_scale=1.0)
        torch.testing.assert_close(painted, latents, rtol=0, atol=1e-3)

    def test_schedules_that_cannot_be(self):
        with pytest.raises(ValueError, match="v_prediction"):
            tiny_model(scheduler=ZERO_SNR | {"prediction_type": "epsilon"})
        with pytest.raises(ValueError, match="min_snr_gamma"):
            tiny_model(scheduler=ZERO_SNR, min_snr_gamma=5.0)
        with pytest.raises(ValueError, match="prediction_type"):
            tiny_model(scheduler={"prediction_type": "sample"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of the script on images with codes, and the folder it ran in."""
    folder = tmp_path_factory.mktemp("pixels")
    paths = write_pictures(folder / "pictures", 6)
    codes = [[3, 1, 4], [1], [5, 9], [2, 6, 5, 3], [0], [23]]
    rows = Dataset.from_dict({"image": [str(path) for path in paths], "codes": codes}).cast_column("image", Image())
    DatasetDict(train=rows, validation=rows.select(range(4))).save_to_disk(folder / "set")
    config = LaVITVisualTokenizerConfig.from_pretrained(write_tokenizer(folder / "tokenizer"))
    config.detokenizer_config.cross_attention_dims = [20]
    torch.manual_seed(0)
    LaVITVisualTokenizerForPreTraining(config).save_pretrained(folder / "tokenizer")
    tiny_vae().save_pretrained(folder / "autoencoder" / "vae")
    run = write_run(
        folder / "run.yaml",
        tokenizer=str(folder / "tokenizer"),
        vae=str(folder / "autoencoder"),
        dataset=str(folder / "set"),
        validation_split="validation",
        unet_config={name: value for name, value in tiny_unet(False).config.items() if not name.startswith("_")},
        scheduler=ZERO_SNR,
        ema_decay=0.9,
        cache_latents=True,
        sample_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
    )
    return SimpleNamespace(folder=folder, run=run, output=run_script(load_script("train_pixel_decoder"), run))


class TestScript:
    def test_saved_parts_paint(self, trained, tmp_path):
        """With a processor and a codebook they are a repo that decodes image tokens."""
        stage_1 = LaVITVisualTokenizerForPreTraining.from_pretrained(trained.folder / "tokenizer")
        detokenizer = LaVITDetokenizer.from_pretrained(trained.output, subfolder="detokenizer")
        detokenizer.set_codebook(stage_1.visual_tokenizer.quantizer.codebook.weight)
        parts = {"language_model": None, "processor": tiny_processor(), "detokenizer": detokenizer}
        LaVITPipeline.from_pretrained(trained.output, **parts).save_pretrained(tmp_path)
        pipeline = LaVITPipeline.from_pretrained(tmp_path)
        ids = [torch.tensor([FIRST_CODE + 3, FIRST_CODE]), torch.tensor([FIRST_CODE + 7])]
        pictures = pipeline(image_token_ids=ids, num_inference_steps=2).images
        assert [picture.size for picture in pictures] == [(16, 16)] * 2
        assert pipeline.scheduler.config.prediction_type == "v_prediction"

    def test_averaged_weights_are_saved(self, trained):
        average = load_file(trained.output / "checkpoint-4" / EMA_NAME)
        latest = weights(trained.output / "checkpoint-4")
        unet = load_file(trained.output / "unet" / "diffusion_pytorch_model.safetensors")
        detokenizer = weights(trained.output / "detokenizer")
        assert all(torch.equal(average[f"unet.{name}"], tensor) for name, tensor in unet.items())
        name = "condition_projections.0.weight"
        assert torch.equal(average[f"detokenizer.{name}"], detokenizer[name])
        assert not torch.equal(average["unet.conv_in.weight"], latest["unet.conv_in.weight"])

    def test_frozen_parts_are_not_in_checkpoints(self, trained):
        names = weights(trained.output / "checkpoint-4")
        assert {name.split(".")[0] for name in names} == {"unet", "detokenizer"}

    def test_samples_are_drawn(self, trained):
        assert (trained.output / "samples" / "step-00000004.png").exists()

    def test_a_killed_run_goes_on_to_the_same_weights(self, trained, tmp_path):
        shutil.copy(trained.output / "run.json", tmp_path)
        shutil.copytree(trained.output / "checkpoint-2", tmp_path / "checkpoint-2")
        run_script(load_script("train_pixel_decoder"), trained.run, "--output_dir", str(tmp_path))
        for name in (f"checkpoint-4/{EMA_NAME}", "checkpoint-4/model.safetensors"):
            first, second = load_file(trained.output / name), load_file(tmp_path / name)
            assert first.keys() == second.keys()
            for key, tensor in first.items():
                torch.testing.assert_close(second[key], tensor, **EXACT)

    def test_a_checkpoint_without_average(self, trained, tmp_path):
        shutil.copy(trained.output / "run.json", tmp_path)
        shutil.copytree(trained.output / "checkpoint-2", tmp_path / "checkpoint-2")
        (tmp_path / "checkpoint-2" / EMA_NAME).unlink()
        with pytest.raises(TrainingError, match="no averaged weights"):
            run_script(load_script("train_pixel_decoder"), trained.run, "--output_dir", str(tmp_path))

    def test_the_best_checkpoint_would_not_be_what_is_saved(self, trained, tmp_path):
        overrides = ["--output_dir", str(tmp_path), "--load_best_model_at_end", "true"]
        with pytest.raises(TrainingError, match="would restore the weights, but not their average"):
            run_script(load_script("train_pixel_decoder"), trained.run, *overrides)

    @pytest.mark.slow
    def test_pictures_alone(self, trained, tmp_path):
        """Without codes or features the visual tokenizer reads the images, cached latents or not."""
        overrides = ["--dataset", str(trained.folder / "pictures"), "--validation_split", "train"]
        overrides += ["--max_steps", "1", "--output_dir", str(tmp_path), "--cache_latents"]
        run_script(load_script("train_pixel_decoder"), trained.run, *overrides)
        assert (tmp_path / "unet").is_dir()

    def test_data_that_stream(self, trained, tmp_path):
        script = load_script("train_pixel_decoder")
        overrides = ["--streaming", "true", "--max_steps", "1", "--output_dir", str(tmp_path)]
        with pytest.raises(TrainingError, match="stream"):
            run_script(script, trained.run, *overrides)
        run_script(script, trained.run, *overrides, "--cache_latents", "false", "--output_dir", str(tmp_path / "run"))
        assert (tmp_path / "run" / "unet").is_dir()

    def test_a_trained_unet_goes_on_in_latents_of_patches(self, trained, tmp_path):
        """What one run saved is where the next starts: on true features first, say, and then on codes."""
        torch.manual_seed(0)
        PatchAutoencoder(patch_size=2, latent_channels=4).save_pretrained(tmp_path / "patches" / "vae")
        settings = yaml.safe_load(trained.run.read_text()) | {
            "unet_config": None,
            "unet": str(trained.output),
            "detokenizer": str(trained.output),
            "vae": str(tmp_path / "patches"),
            "max_steps": 1,
            "learning_rate": 0.0,
            "output_dir": str(tmp_path / "run"),
        }
        output = run_script(load_script("train_pixel_decoder"), write_run(tmp_path / "run.yaml", **settings))
        file = "unet/diffusion_pytorch_model.safetensors"
        first, second = load_file(trained.output / file), load_file(output / file)
        assert all(torch.equal(first[name], tensor) for name, tensor in second.items())
        schedule = DDIMScheduler.from_pretrained(output, subfolder="scheduler")
        assert schedule.config.rescale_betas_zero_snr

    def test_new_or_trained_unet(self, trained, tmp_path):
        with pytest.raises(TrainingError, match="unet_config"):
            run_script(
                load_script("train_pixel_decoder"), trained.run, "--unet", "somewhere", "--output_dir", str(tmp_path)
            )


class TestRows:
    @pytest.fixture
    def pictures(self, tmp_path):
        paths = write_pictures(tmp_path / "pictures", 4)
        columns = {"image": [str(path) for path in paths], "row": [0, 0, 1, 1], "view": [0, 1, 0, 1]}
        return Dataset.from_dict(columns).cast_column("image", Image())

    def codes(self, **columns):
        return Dataset.from_dict({"codes": [[1], [2], [3], [4]], **columns})

    def test_pairs(self, pictures):
        rows = pair_rows(pictures, self.codes(row=[0, 0, 1, 1]))
        assert [rows[number]["codes"] for number in range(4)] == [[1], [2], [3], [4]]
        assert rows[0]["image"].size == (32, 32)

    def test_broken_pictures_go_with_their_codes(self, pictures, tmp_path):
        (tmp_path / "pictures" / "picture_01.png").write_bytes(b"broken")
        rows = pair_rows(pictures, self.codes())
        assert [row["codes"] for row in rows] == [[1], [3], [4]]

    def test_codes_of_readable_pictures_alone(self, pictures, tmp_path):
        """As the pretokenizer writes them. They must be of the same images all the same."""
        (tmp_path / "pictures" / "picture_01.png").write_bytes(b"broken")
        codes = self.codes(row=[0, 0, 1, 1], view=[0, 1, 0, 1])
        rows = pair_rows(pictures, codes.select([0, 2, 3]))
        assert [(row["codes"], row["image"].size) for row in rows] == [([n], (32, 32)) for n in (1, 3, 4)]
        with pytest.raises(TrainingError, match="do not match at row 1, where 'row' differs"):
            pair_rows(pictures, codes.select([0, 1, 3]))

    def test_other_counts(self, pictures):
        with pytest.raises(TrainingError, match="4 images, but codes or features for 3"):
            pair_rows(pictures, self.codes().select(range(3)))

    def test_other_order(self, pictures):
        with pytest.raises(TrainingError, match="do not match at row 2"):
            pair_rows(pictures, self.codes(view=[0, 1, 1, 0]))

    def test_missing_column(self, pictures):
        with pytest.raises(TrainingError, match="no column 'photo', only image"):
            pair_rows(pictures, image_column="photo")

    def test_cached_latents(self, pictures):
        model = tiny_model()
        read = {"column": "image", "image_processor": VaeImageProcessor(vae_scale_factor=2), "size": 16}
        rows = pair_rows(pictures, self.codes())
        cached = cache_latents(rows, model, lambda batch: read_pixels(batch, **read), batch_size=3)
        expected = model.encode_pictures(read_pixels([rows[number] for number in range(4)], **read))
        batch = Collator(
            latents=lambda rows: read_latents(rows, size=8), codes=lambda rows: read_codes(rows, "codes", NUM_PATCHES)
        )([cached[number] for number in range(4)])
        torch.testing.assert_close(batch["latents"], expected, rtol=1e-3, atol=1e-3)
        assert batch["codes"].shape == (4, NUM_PATCHES) and batch["codes"][2].tolist() == [3, *[-1] * 15]
        assert "image" not in cached.column_names

    def test_latents_of_another_scale_are_others(self, pictures):
        rows, read = pair_rows(pictures), {"column": "image", "image_processor": VaeImageProcessor(vae_scale_factor=2)}
        model = tiny_model()
        prints = set()
        for scale in (0.5, 2.0):
            model.vae.register_to_config(scaling_factor=scale)
            cached = cache_latents(rows, model, lambda batch: read_pixels(batch, **read, size=16))
            prints.add(cached.parts[0]._fingerprint)
        assert len(prints) == 2

    def test_long_strips_are_reduced_first(self, monkeypatch):
        """A strip that is resized at once takes its length times the size of the result."""
        sizes = []
        monkeypatch.setattr(
            VaeImageProcessor, "preprocess", lambda self, images, *size: sizes.extend(image.size for image in images)
        )
        read_pixels([{"image": PilImage.new("L", (1, 1_000_000))}], "image", VaeImageProcessor(), 16)
        assert max(sizes[0]) <= MAX_SIDE

    @pytest.mark.parametrize("codes", [[], [1] * 17, [1, -1]])
    def test_codes_that_cannot_be(self, codes):
        with pytest.raises(TrainingError, match=f"{len(codes)} codes"):
            read_codes([{"codes": codes}], "codes", NUM_PATCHES)


class TestBadInput:
    def test_code_outside_the_codebook(self):
        with pytest.raises(ValueError, match="image 1 has the code 24"):
            tiny_model()(latents=torch.randn(2, 4, 8, 8), codes=torch.tensor([[1, -1], [24, -1]]))

    def test_what_to_paint_and_what_from(self):
        model, latents = tiny_model(), torch.randn(4, 4, 8, 8)
        with pytest.raises(ValueError, match="either pixel_values or latents"):
            model(codes=CODES)
        with pytest.raises(ValueError, match="nothing to condition on"):
            tiny_model()(latents=latents)
        with pytest.raises(ValueError, match="visual tokenizer"):
            model(latents=latents, features=torch.randn(4, 16, 16))
        with pytest.raises(ValueError, match="Pass features, not codes"):
            tiny_model(condition="features")(latents=latents, codes=CODES)

    def test_parts_that_do_not_fit(self):
        detokenizer, schedule = tiny_detokenizer(False), DDIMScheduler()
        with pytest.raises(ValueError, match="pooled_projection_dim"):
            LaVITPixelDecoderForTraining(tiny_unet(True), detokenizer, tiny_vae(), schedule)
        unet = UNet2DConditionModel.from_config(tiny_unet(False).config, cross_attention_dim=16)
        with pytest.raises(ValueError, match="width 16, but the detokenizer's cross_attention_dims add up to 20"):
            LaVITPixelDecoderForTraining(unet, detokenizer, tiny_vae(), schedule)
        unet = UNet2DConditionModel.from_config(tiny_unet(False).config, in_channels=8)
        with pytest.raises(ValueError, match="latents have 4"):
            LaVITPixelDecoderForTraining(unet, detokenizer, tiny_vae(), schedule)
        with pytest.raises(ValueError, match="latents have 4"):
            LaVITPipeline(None, tiny_processor(), detokenizer, unet, tiny_vae(), schedule)
        detokenizer.config.num_patches = 15
        with pytest.raises(ValueError, match="15 patches do not form a square"):
            LaVITPixelDecoderForTraining(tiny_unet(False, sees_map=True), detokenizer, tiny_vae(), schedule)

    def test_settings(self):
        with pytest.raises(ValueError, match="condition must be"):
            tiny_model(condition="ids")
        with pytest.raises(ValueError, match="condition_dropout"):
            tiny_model(condition_dropout=1.5)
