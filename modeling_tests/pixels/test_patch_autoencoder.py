# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The autoencoder of patches' principal components, and the decoder that smooths them."""

import shutil

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from datasets import Dataset, DatasetDict, Image
from safetensors.torch import load_file

from lavit_hf import PatchAutoencoder, PatchAutoencoderForTraining
from training_runs import load_script, run_script, weights, write_pictures, write_run


DECODER = {"decoder_channels": (16, 8), "norm_num_groups": 4}
EXACT = {"rtol": 0, "atol": 0}


@pytest.fixture
def pictures():
    """Smooth images, which few components describe."""
    coarse = torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear")


def test_all_components_keep_everything(pictures):
    vae = PatchAutoencoder.fit(pictures, patch_size=4, latent_channels=48)
    latents = vae.encode(pictures).latent_dist.mode()
    assert latents.shape == (8, 48, 4, 4)
    assert torch.allclose(vae.decode(latents).sample, pictures, atol=1e-5)


def test_first_components_keep_most(pictures):
    errors = []
    for latent_channels in (1, 4, 16):
        vae = PatchAutoencoder.fit(pictures, latent_channels=latent_channels)
        rebuilt = vae.decode(vae.encode(pictures).latent_dist.sample()).sample
        errors.append((rebuilt - pictures).square().mean().item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05 * pictures.var()


def test_scaled_latents_have_a_mean_square_of_one(pictures):
    vae = PatchAutoencoder.fit(pictures)
    latents = vae.encode(pictures).latent_dist.mode() * vae.config.scaling_factor
    assert latents.square().mean().item() == pytest.approx(1, rel=1e-3)


def test_saves_and_loads(pictures, tmp_path):
    vae = PatchAutoencoder.fit(pictures)
    vae.save_pretrained(tmp_path)
    loaded = PatchAutoencoder.from_pretrained(tmp_path)
    assert loaded.spatial_compression_ratio == 4
    assert torch.equal(vae.encode(pictures).latent_dist.mode(), loaded.encode(pictures).latent_dist.mode())


def test_offloading_wakes_it_before_it_is_used(pictures):
    class Recorder(ModelHook):
        woken = 0

        def pre_forward(self, module, *args, **kwargs):
            self.woken += 1
            return args, kwargs

    vae, hook = PatchAutoencoder.fit(pictures), Recorder()
    add_hook_to_module(vae, hook)
    latents = vae.encode(pictures).latent_dist.mode()
    assert hook.woken == 1
    vae.decode(latents)
    assert hook.woken == 2


def test_refuses_more_components_than_there_are():
    with pytest.raises(ValueError, match="latent_channels must lie between 1 and the 48 values"):
        PatchAutoencoder(latent_channels=49)


class TestDecoder:
    def test_a_new_one_adds_nothing(self, pictures):
        vae = PatchAutoencoder.fit(pictures, **DECODER)
        latents = vae.encode(pictures).latent_dist.mode()
        assert torch.equal(vae.decode(latents).sample, vae.decode_components(latents))
        plain = PatchAutoencoder.fit(pictures)
        torch.testing.assert_close(vae.decode(latents).sample, plain.decode(latents).sample)

    def test_learns_to_take_noise_away(self, pictures):
        model = PatchAutoencoderForTraining(PatchAutoencoder.fit(pictures, **DECODER))
        optimizer = torch.optim.Adam(model.vae.decoder.parameters(), lr=3e-3)
        torch.manual_seed(0)
        for _ in range(250):
            optimizer.zero_grad()
            model.train()(pixel_values=pictures).loss.backward()
            optimizer.step()
        outputs = model.eval()(pixel_values=pictures)
        assert outputs.loss < 0.9 * outputs.components_loss

    def test_only_the_decoder_is_trained(self, pictures):
        model = PatchAutoencoderForTraining(PatchAutoencoder.fit(pictures, **DECODER))
        model(pixel_values=pictures).loss.backward()
        trained = {name for name, weight in model.named_parameters() if weight.grad is not None}
        assert trained == {name for name, _ in model.named_parameters() if name.startswith("vae.decoder.")}

    def test_evaluation_draws_nothing(self, pictures):
        model = PatchAutoencoderForTraining(PatchAutoencoder.fit(pictures, **DECODER)).eval()
        state = torch.random.get_rng_state()
        assert torch.equal(model(pixel_values=pictures).loss, model(pixel_values=pictures).loss)
        assert torch.equal(state, torch.random.get_rng_state())

    def test_noise_is_of_the_strength_that_is_set(self, pictures):
        vae = PatchAutoencoder.fit(pictures, **DECODER)
        model = PatchAutoencoderForTraining(vae, largest_noise=0.5).eval()
        latents = vae.encode(pictures).latent_dist.mode()
        noise = (model.add_noise(latents) - latents).flatten(1).std(dim=1) * vae.config.scaling_factor
        torch.testing.assert_close(noise, torch.linspace(0, 0.5, len(noise)), rtol=0.2, atol=1e-6)

    def test_refuses_levels_that_make_no_patch(self):
        with pytest.raises(ValueError, match="3 decoder levels turn a latent into 8 pixels, but a patch has 4"):
            PatchAutoencoder(decoder_channels=(16, 8, 8))

    def test_training_needs_a_decoder(self):
        with pytest.raises(ValueError, match=r"no decoder to train\. Set its decoder_channels"):
            PatchAutoencoderForTraining(PatchAutoencoder())


class TestScript:
    @pytest.fixture(scope="class")
    def run(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("patch_autoencoder")
        paths = [str(path) for path in write_pictures(folder / "pictures", 12)]
        rows = Dataset.from_dict({"image": paths}).cast_column("image", Image())
        DatasetDict(train=rows.take(8), validation=rows.skip(8)).save_to_disk(folder / "set")
        torch.manual_seed(0)
        PatchAutoencoder(latent_channels=12, **DECODER).save_pretrained(folder / "fitted" / "vae")
        return write_run(
            folder / "run.yaml",
            vae=str(folder / "fitted"),
            dataset=str(folder / "set"),
            validation_split="validation",
            size=16,
            save_strategy="steps",
            save_steps=2,
            eval_strategy="steps",
            eval_steps=4,
        )

    @pytest.fixture(scope="class")
    def output(self, run):
        return run_script(load_script("train_patch_autoencoder"), run)

    def test_what_is_saved_decodes_as_trained(self, output):
        vae = PatchAutoencoder.from_pretrained(output, subfolder="vae")
        last = weights(output / "checkpoint-4")
        assert all(torch.equal(last[f"vae.{name}"], tensor) for name, tensor in vae.state_dict().items())
        assert vae.decoder.levels[-1].conv_out.weight.any()

    def test_samples_are_drawn(self, output):
        assert (output / "samples" / "step-00000004.png").exists()

    def test_a_killed_run_goes_on_to_the_same_weights(self, run, output, tmp_path):
        shutil.copy(output / "run.json", tmp_path)
        shutil.copytree(output / "checkpoint-2", tmp_path / "checkpoint-2")
        run_script(load_script("train_patch_autoencoder"), run, "--output_dir", str(tmp_path))
        name = "vae/diffusion_pytorch_model.safetensors"
        torch.testing.assert_close(load_file(tmp_path / name), load_file(output / name), **EXACT)
