# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The plans in examples/ablations, and the functions that they measure and choose patches by."""

import dataclasses
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import TrainingArguments


pytest.importorskip("datasets")
pytest.importorskip("vector_quantize_pytorch")

from lavit_hf import LaVITProcessor, bundled_checkpoint
from lavit_hf.ablation.plans import find_plans, load_plan
from lavit_hf.ablation.steps import chain_of
from lavit_hf.training.feature_rows import to_bytes
from lavit_hf.training.modeling_lavit_pretraining import LaVITForPreTraining
from training_runs import EXAMPLES, load_script


sys.path.insert(0, str(EXAMPLES / "emoji"))
import choices
from lavit_emoji.measures.reading import CAPTION_SETTINGS
from measure_meaning import group_by_code, places_by_code, purity, shuffle
from measure_reading import TokenReader


PLANS = find_plans(EXAMPLES / "ablations")


def known_settings(script: Path) -> set[str]:
    """What a script's run file may set."""
    module = vars(load_script(str(script.relative_to(EXAMPLES).with_suffix(""))))
    kinds = [kind for name, kind in module.items() if name.endswith("Settings") or kind is TrainingArguments]
    return {field.name for kind in kinds for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_scripts_know_all_settings(path, tmp_path):
    plan = load_plan(path)
    for arm in plan.arms:
        for step in chain_of(plan, arm, 0, tmp_path, {"data": "data"}):
            assert not step.settings.keys() - known_settings(step.script), (arm, step.name)


def test_figures_are_of_the_plans_steps():
    for path in PLANS:
        plan = load_plan(path)
        assert {figure.name.split(".")[0] for figure in plan.figures} <= {step.name for step in plan.steps}
        assert len(plan.seeds) >= 3 and len(plan.arms) >= 2


class TestChoices:
    masks = torch.zeros(3, 64, dtype=torch.bool)
    masks[0, :16] = masks[1, 40:44] = masks[2] = True

    @pytest.mark.parametrize("choose", [choices.random, choices.evenly, choices.energy, choices.attention])
    def test_as_many_of_each_image(self, choose):
        features = torch.randn(3, 64, 592, generator=torch.Generator().manual_seed(0))
        chosen = choose(self.masks, features, torch.Generator().manual_seed(0))
        assert chosen.dtype == torch.bool and chosen.sum(dim=1).tolist() == [16, 4, 64]

    def test_evenly_is_one_in_every_block(self):
        chosen = choices.evenly(self.masks, torch.zeros(3, 64, 592))
        assert (chosen[0].view(4, 2, 4, 2).sum(dim=(1, 3)) == 1).all()  # 16 of 64: one in every 2 x 2
        assert (chosen[1].view(2, 4, 2, 4).sum(dim=(1, 3)) == 1).all()  # 4: one in every 4 x 4

    def test_energy_is_of_the_local_channels(self):
        features = torch.zeros(1, 64, 592)
        features[0, 7, 3], features[0, 9, 3], features[0, 11, -1] = 2, -3, 100
        masks = torch.zeros(1, 64, dtype=torch.bool)
        masks[0, :2] = True
        assert choices.energy(masks, features)[0].nonzero()[:, 0].tolist() == [7, 9]

    def test_attention_is_to_what_the_image_is_on_the_whole(self):
        features = torch.zeros(1, 64, 592)
        features[0, :40, 0] = 1  # most of the image
        features[0, 5, 0], features[0, 60, 1] = 3, 9
        masks = torch.zeros(1, 64, dtype=torch.bool)
        masks[0, 0] = True
        # 60 is the largest by itself: 9 * 9 / 64 against 3 * 42 / 64
        assert choices.attention(masks, features)[0].nonzero()[:, 0].tolist() == [5]


class TestMeaning:
    codes = [[1, 1, 2], [1, 3], [2, 3], [4]]
    names = ["cat", "cat", "dog", "dog"]

    def test_purity_by_hand(self):
        groups = group_by_code(self.codes, self.names)
        assert groups == {1: ["cat", "cat"], 2: ["cat", "dog"], 3: ["cat", "dog"], 4: ["dog"]}
        assert purity(groups.values()) == pytest.approx(4 / 6)  # 4 has one drawing alone, and says nothing

    def test_purity_of_places_by_hand(self):
        masks = [[True, False, True, True], [True, True, False, False], [False, False, True, True]]
        groups = places_by_code([[7, 8, 7], [7, 8], [8, 9]], masks)
        assert groups == {7: [0, 3, 0], 8: [2, 1, 2], 9: [3]}
        assert purity(groups.values()) == pytest.approx(4 / 6)

    def test_shuffled_codes_are_the_same_codes(self):
        shuffled = shuffle([[number] * 5 for number in range(20)], seed=0)
        assert [len(image) for image in shuffled] == [5] * 20
        assert sorted(code for image in shuffled for code in image) == sorted(list(range(20)) * 5)
        assert shuffled != [[number] * 5 for number in range(20)]
        assert shuffled == shuffle([[number] * 5 for number in range(20)], seed=0)


class TestReading:
    """The names that a step of the plans measures are those that `generate` gives of the images."""

    @pytest.fixture(scope="class")
    def model(self):
        return LaVITForPreTraining.from_pretrained(bundled_checkpoint(), dtype=torch.float32).eval()

    @pytest.fixture(scope="class")
    def processor(self):
        return LaVITProcessor.from_pretrained(bundled_checkpoint())

    @pytest.fixture(scope="class")
    def pixel_values(self, processor):
        paths = [EXAMPLES / "images" / "emoji" / f"{name}.png" for name in ("penguin", "rocket", "camel")]
        return processor.image_processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt")[
            "pixel_values"
        ]

    def test_from_rows(self, model, processor, pixel_values):
        model.share_merger()  # as rows are merged
        tokenized = model.visual_tokenizer(pixel_values)
        images = [{"rows": to_bytes(rows)} for rows in tokenized.merged]
        said = TokenReader(model, processor, read_codes=False).caption(images)
        slots = torch.tensor([[model.config.image_start_token_id, model.config.image_end_token_id]] * len(images))
        ids = model.generate(slots, pixel_values, do_sample=False, **CAPTION_SETTINGS)[:, 2:]
        assert said == processor.post_process_caption(processor.batch_decode(ids, skip_special_tokens=True))

    def test_from_codes(self, model, processor, pixel_values):
        codes = [image.tolist() for image in model.visual_tokenizer(pixel_values).codes]
        said = TokenReader(model, processor, read_codes=True).caption([{"codes": image} for image in codes])
        first, start, end = (
            getattr(model.config, f"{name}_token_id") for name in ("first_code", "image_start", "image_end")
        )
        for text, image in zip(said, codes):  # one by one, without padding
            prompt = torch.tensor([[start, *(first + code for code in image), end]])
            ids = model.generate(prompt, do_sample=False, **CAPTION_SETTINGS)[:, prompt.shape[1] :]
            assert [text] == processor.post_process_caption(processor.batch_decode(ids, skip_special_tokens=True))

    @pytest.mark.parametrize("read_codes", [False, True])
    def test_loss_is_that_of_the_names_tokens(self, model, processor, pixel_values, read_codes, request):
        model.share_merger()  # as rows are merged, which are stored in fp16
        merger = model.visual_tokenizer.merger
        request.addfinalizer(merger.register_forward_hook(lambda *call: call[-1].half().float()).remove)
        tokenized = model.visual_tokenizer(pixel_values)
        names = ["penguin", "rocket", "two-hump camel"]
        images = [
            {"rows": to_bytes(rows), "codes": codes.tolist(), "keep_mask": keep_mask.tolist(), "name": name}
            for rows, codes, keep_mask, name in zip(tokenized.merged, tokenized.codes, tokenized.keep_mask, names)
        ]
        loss = TokenReader(model, processor, read_codes).loss(images)

        losses, config = [], model.config
        for number, (name, codes) in enumerate(zip(names, tokenized.codes)):  # one by one, as `generate` sees them
            slot = [config.image_start_token_id, *(config.first_code_token_id + codes if read_codes else ())]
            prompt = torch.tensor([[*slot, config.image_end_token_id]])
            answer = torch.tensor(
                [[*processor.tokenizer.encode(name, add_special_tokens=False), processor.tokenizer.eos_token_id]]
            )
            inputs = {"input_ids": torch.cat([prompt, answer], dim=1)}
            logits = model(
                **inputs, **({} if read_codes else {"pixel_values": pixel_values[number : number + 1]})
            ).logits
            losses.append(
                torch.nn.functional.cross_entropy(logits[0, -answer.shape[1] - 1 : -1], answer[0], reduction="none")
            )
        expected = torch.cat(losses).mean().item()
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
