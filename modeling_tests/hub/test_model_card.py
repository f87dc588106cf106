# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Model cards: what they tell, and that none is overwritten."""

import json
import shutil

import pytest
from huggingface_hub import ModelCard
from transformers import LlamaConfig
from transformers.pipelines import PIPELINE_REGISTRY

from conftest import tiny_visual_config
from lavit_hf import LaVITConfig, LaVITPipeline, bundled_checkpoint, create_model_card
from training_runs import EXAMPLES, load_script


def tiny_config(**kwargs) -> LaVITConfig:
    text_config = LlamaConfig(vocab_size=40 + 2 + 24, hidden_size=32, num_hidden_layers=3)
    return LaVITConfig(text_config=text_config, visual_tokenizer_config=tiny_visual_config(**kwargs))


def titles(card: ModelCard) -> list[str]:
    return [line.removeprefix("## ") for line in card.text.splitlines() if line.startswith("## ")]


class TestContent:
    def test_sizes_are_the_configurations(self):
        text = create_model_card(tiny_config(), num_parameters=12_345_678, picture_size=64).text
        for row in (
            "| encoder | blip_2_vision_model, 32 px |",
            "| patches | 16 of 32 channels |",
            "| codes | 24 of width 8 |",
            "| language model | llama, 3 layers of width 32 |",
            "| text ids | 0 to 39 |",
            "| `[IMG]`, `[/IMG]`, code `k` | 40, 41, 42 + `k` |",
            "| parameters, visual tokenizer included | 12.3 million |",
            "| images | 64 px |",
        ):
            assert row in text

    def test_metadata(self):
        card = create_model_card(tiny_config(), license="mit", language="en", tags=["mine", "lavit"])
        data = ModelCard(str(card)).data
        assert (data.license, data.language, data.library_name) == ("mit", "en", "transformers")
        assert data.tags == ["lavit", "multimodal", "image-tokenizer", "mine"]
        assert "under `mit`" in card.text

    @pytest.mark.parametrize(("picture_size", "task"), [(None, "image-text-to-text"), (64, "any-to-any")])
    def test_task(self, picture_size, task):
        card = create_model_card(tiny_config(), repo="org/mine", picture_size=picture_size)
        assert card.data.pipeline_tag == task
        assert task in PIPELINE_REGISTRY.get_supported_tasks()
        assert 'LaVITForCausalLM.from_pretrained("org/mine")' in card.text
        assert ("LaVITPipeline" in card.text) == (picture_size is not None)

    @pytest.mark.parametrize("selection", ["sample", "threshold"])
    def test_repeatable_or_not(self, selection):
        text = create_model_card(tiny_config(selection=selection)).text
        assert ("For repeatable results" in text) == (selection == "sample")

    def test_sections(self):
        card = create_model_card(tiny_config(), sections={"Data": "Emoji.", "License": "Mine."}, description="Small.")
        assert titles(card) == ["Usage", "Sizes", "Data", "License", "Limits"]
        assert "## License\n\nMine.\n" in card.text
        assert "# LaVIT\n\nSmall.\n" in card.text


def test_card_of_the_user_stays(repos, tmp_path):
    (tmp_path / "README.md").write_text("# Mine\n")
    LaVITPipeline.from_pretrained(repos["lowres"], language_model=None).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


class TestBundled:
    """The card of the shipped checkpoint, whose figures are measured ones."""

    @pytest.fixture
    def folder(self, tmp_path):
        """The checkpoint without its weights."""
        return shutil.copytree(
            bundled_checkpoint(), tmp_path / "lavit-emoji", ignore=shutil.ignore_patterns("*.safetensors", "README.md")
        )

    @pytest.fixture(autouse=True)
    def beside_the_script(self, monkeypatch):
        """Where the script finds what it imports."""
        monkeypatch.syspath_prepend(EXAMPLES / "emoji")

    @pytest.fixture
    def evaluation(self, tmp_path):
        """Figures that tell themselves from those of the first checkpoint."""
        figures = json.loads((EXAMPLES / "emoji" / "results" / "lavit-emoji-1.json").read_text())
        figures["captions"]["test_drawings"]["model"]["everyday"]["exact"] = 0.123
        figures["captions"]["photographs"] = {"a harbour": "anchor"}
        path = tmp_path / "evaluation.json"
        path.write_text(json.dumps(figures))
        return path

    def test_tells_what_was_measured(self, folder, evaluation, tmp_path):
        script = load_script("emoji/card")
        (folder / script.KEPT_PATCHES).unlink(missing_ok=True)
        script.main(model=folder, evaluation=evaluation, note="A note.", runs=tmp_path)
        card = ModelCard.load(folder / "README.md")
        row = next(line for line in card.text.splitlines() if line.startswith("| caption, exact name: everyday"))
        first = json.loads(script.FIRST.read_text())["captions"]["test_drawings"]
        before, probe = (first[name]["everyday"]["exact"] for name in ("model", "probe"))
        assert row.split(" | ")[1:] == ["113", f"{before:.2f}", "0.12", f"probe {probe:.2f}", "0.70 |"]
        assert "* caption, exact name: everyday concepts: 0.12 (target: 0.70)" in card.text
        assert "At\nn = 113, the standard error is up to 5 points." in card.text
        assert 'a harbour: "anchor"' in card.text
        assert "A note." in card.text
        assert (folder / "evaluation.json").read_text() == evaluation.read_text()
        assert titles(card) == ["Usage", "Sizes", "Results", "Limits", "License"]
        assert (card.data.license, card.data.pipeline_tag) == ("apache-2.0", "any-to-any")
        assert "emoji" in card.data.tags
        credits = [line for line in script.ATTRIBUTION.read_text().splitlines() if line.startswith("| `")]
        assert len(credits) > 1 and all(line in card.text for line in credits)

    def test_shows_what_is_kept(self, folder, evaluation, tmp_path):
        script = load_script("emoji/card")
        (folder / script.KEPT_PATCHES).write_bytes(b"a picture")
        script.main(model=folder, evaluation=evaluation, runs=tmp_path, note="")
        assert f"]({script.KEPT_PATCHES})" in ModelCard.load(folder / "README.md").text

    def test_half_an_evaluation_is_refused(self, folder, evaluation, tmp_path):
        figures = json.loads(evaluation.read_text())
        evaluation.write_text(json.dumps({name: figures[name] for name in figures if name != "pictures"}))
        with pytest.raises(SystemExit, match=r"has no part 'pictures'\. Run "):
            load_script("emoji/card").main(model=folder, evaluation=evaluation, runs=tmp_path, note="")
        assert not (folder / "README.md").exists()

    def test_tells_the_last_losses(self, folder, evaluation, tmp_path):
        history = [{"loss": 2.0, "step": 10}, {"loss": 1.5, "eval_loss": 1.25, "step": 20}]
        checkpoint = tmp_path / "language-model" / "checkpoint-20"
        checkpoint.mkdir(parents=True)
        (checkpoint / "trainer_state.json").write_text(json.dumps({"log_history": history}))
        load_script("emoji/card").main(model=folder, evaluation=evaluation, runs=tmp_path, note="")
        card = ModelCard.load(folder / "README.md")
        assert "The end of training" in titles(card)
        assert "* stage 2, 20 steps: eval_loss 1.250, loss 1.500" in card.text
