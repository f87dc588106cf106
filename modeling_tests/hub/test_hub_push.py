# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Pushing to the Hub through its real client, over HTTP, and what then lies there."""

import hashlib
from contextlib import contextmanager

import pytest
from huggingface_hub import ModelCard, hf_hub_download, metadata_update
from huggingface_hub.errors import HfHubHTTPError
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from hub_client import STRANGER, assert_same_weights
from lavit_hf import LaVITPipeline, LaVITProcessor, LaVITVisualTokenizer
from lavit_hf.lavit.checkpoint_index import VISUAL_TOKENIZER_INDEX_NAME
from loopback_hub import _Handler


WEIGHTS, CARD = "model.safetensors", "README.md"
NO_ANSWERS = pytest.mark.parametrize("status", [429, 500, 503])


@pytest.fixture(scope="module")
def pipeline(repos):
    return LaVITPipeline.from_pretrained(repos["lowres"])


@pytest.fixture(scope="module")
def model(pipeline):
    return pipeline.language_model


@pytest.fixture
def repo_id(owner):
    """The id of a repo that is not there yet."""
    return f"org/pushed-{len(owner.repos)}"


@contextmanager
def no_answer_about(name: str, status: int):
    """The Hub is too busy to say whether a file is there."""
    answer = _Handler.handle_request

    def head(self) -> None:
        if self.path.endswith(f"/{name}"):
            self.send_json({"error": "busy"}, status)
        else:
            answer(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Handler, "do_HEAD", head)
        yield


def read_card(repo_id: str, revision: str | None = None) -> ModelCard:
    return ModelCard.load(hf_hub_download(repo_id, CARD, revision=revision))


class TestModel:
    def test_comes_back(self, owner, repo_id, model):
        model.push_to_hub(repo_id)
        assert_same_weights(AutoModelForImageTextToText.from_pretrained(repo_id), model)
        assert_same_weights(LaVITVisualTokenizer.from_pretrained(repo_id), model.visual_tokenizer)
        assert len(owner.repos[repo_id].commits) == 2  # the empty one and ours

    def test_weights_go_to_large_file_storage(self, owner, repo_id, model, tmp_path):
        model.push_to_hub(repo_id)
        model.save_pretrained(tmp_path)
        tree = owner.repos[repo_id].tree()
        assert [path for path, blob in tree.items() if blob.is_lfs] == [WEIGHTS]
        assert tree[WEIGHTS].sha256 == hashlib.sha256((tmp_path / WEIGHTS).read_bytes()).hexdigest()
        model.push_to_hub(repo_id, commit_message="the same again")
        assert sum(request.method == "PUT" for request in owner.requests) <= 1, "stored weights were sent again"

    def test_in_small_files(self, owner, repo_id, model):
        model.push_to_hub(repo_id, max_shard_size="2MB")
        assert_same_weights(LaVITVisualTokenizer.from_pretrained(repo_id), model.visual_tokenizer)
        files = {path for path in owner.repos[repo_id].tree() if path.endswith(".safetensors")}
        assert {request.file for request in owner.downloads() if request.file in files} < files

    def test_old_weights_do_not_stay(self, owner, repo_id, model, pipeline):
        """A single file would be loaded before several, or before those of a pipeline."""
        model.push_to_hub(repo_id, max_shard_size="2MB")
        assert WEIGHTS not in owner.repos[repo_id].tree()
        model.push_to_hub(repo_id)
        assert WEIGHTS in owner.repos[repo_id].tree()
        assert not any("-of-" in path for path in owner.repos[repo_id].tree())
        pipeline.push_to_hub(repo_id)
        assert WEIGHTS not in owner.repos[repo_id].tree()
        assert f"language_model/{WEIGHTS}" in owner.repos[repo_id].tree()
        pipeline.push_to_hub(repo_id, variant="fp16")
        assert {"language_model/model.fp16.safetensors", f"language_model/{WEIGHTS}"} <= set(
            owner.repos[repo_id].tree()
        )

    def test_while_it_is_saved(self, owner, repo_id, model, tmp_path):
        """Only what was saved, and that to the last file."""
        (tmp_path / "mine.txt").write_text("not to be published")
        model.save_pretrained(tmp_path, push_to_hub=True, repo_id=repo_id, private=True)
        saved = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        assert set(owner.repos[repo_id].tree()) == saved - {"mine.txt"}
        assert {WEIGHTS, VISUAL_TOKENIZER_INDEX_NAME, CARD} <= saved
        assert owner.repos[repo_id].is_private

    def test_to_a_branch(self, repo_id, model):
        model.push_to_hub(repo_id)
        model.push_to_hub(repo_id, revision="experiment", tags="trial")
        assert "trial" in read_card(repo_id, "experiment").data.tags
        assert "trial" not in read_card(repo_id).data.tags
        assert_same_weights(AutoModel.from_pretrained(repo_id, revision="experiment"), model)

    @pytest.mark.parametrize(("token", "message"), [(STRANGER, "rights"), ("hf_wrong", "Invalid username")])
    def test_without_the_right(self, owner, repo_id, model, token, message):
        with pytest.raises(HfHubHTTPError, match=message):
            model.push_to_hub(repo_id, token=token)
        assert repo_id not in owner.repos


class TestParts:
    def test_processor_and_tokenizer(self, owner, repo_id, model, pipeline):
        """Into the model's own repo, which keeps its card."""
        processor = pipeline.processor
        model.push_to_hub(repo_id)
        card = str(read_card(repo_id))
        processor.push_to_hub(repo_id)
        loaded = AutoProcessor.from_pretrained(repo_id)
        assert type(loaded) is LaVITProcessor
        assert loaded.image_processor.to_dict() == processor.image_processor.to_dict()
        processor.tokenizer.push_to_hub(repo_id)
        assert AutoTokenizer.from_pretrained(repo_id).get_vocab() == processor.tokenizer.get_vocab()
        processor.image_processor.push_to_hub(repo_id)
        assert str(read_card(repo_id)) == card

    @NO_ANSWERS
    def test_configuration_of_the_whole_is_not_overwritten_unread(self, owner, repo_id, model, status):
        model.push_to_hub(repo_id)
        config = owner.repos[repo_id].tree()["config.json"]
        with no_answer_about("config.json", status), pytest.raises(OSError, match=r"config\.json of .* could not"):
            model.visual_tokenizer.config.push_to_hub(repo_id)
        assert owner.repos[repo_id].tree()["config.json"] == config

    def test_visual_tokenizer(self, repo_id, model):
        model.visual_tokenizer.push_to_hub(repo_id)
        loaded = AutoModel.from_pretrained(repo_id)
        assert type(loaded) is LaVITVisualTokenizer
        assert_same_weights(loaded, model.visual_tokenizer)


class TestPipeline:
    def test_comes_back(self, repo_id, pipeline):
        pipeline.push_to_hub(repo_id)
        loaded = LaVITPipeline.from_pretrained(repo_id)
        for name in ("language_model", "detokenizer", "unet", "vae", "safety_checker"):
            assert_same_weights(getattr(loaded, name), getattr(pipeline, name))
        assert_same_weights(AutoModel.from_pretrained(repo_id), pipeline.language_model)

    def test_while_it_is_saved(self, owner, repo_id, pipeline, tmp_path):
        (tmp_path / "mine.txt").write_text("not to be published")
        pipeline.save_pretrained(tmp_path, push_to_hub=True, repo_id=repo_id)
        saved = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
        assert set(owner.repos[repo_id].tree()) == saved - {"mine.txt"}
        assert (tmp_path / CARD).read_text() == str(read_card(repo_id))

    def test_without_language_model(self, owner, repo_id, repos):
        decoder = LaVITPipeline.from_pretrained(repos["lowres"], language_model=None)
        decoder.push_to_hub(repo_id, private=True)
        assert owner.repos[repo_id].is_private
        assert LaVITPipeline.from_pretrained(repo_id).detokenizer.codebook is not None
        assert read_card(repo_id).data.library_name == "diffusers"

    def test_options_that_are_none(self, repo_id, pipeline):
        with pytest.raises(TypeError, match="subfolder"):
            pipeline.push_to_hub(repo_id, subfolder="inner")


class TestCard:
    def test_tells_the_model_and_its_repo(self, repo_id, pipeline, model):
        pipeline.push_to_hub(repo_id, tags=["trial"])
        card = read_card(repo_id)
        assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "any-to-any")
        assert {"lavit", "trial"} <= set(card.data.tags)
        assert f'LaVITPipeline.from_pretrained("{repo_id}")' in card.text
        assert f"{pipeline.picture_size} px" in card.text
        assert f"{model.num_parameters() / 1e6:.1f} million" in card.text

    def test_of_the_hub_is_kept(self, repo_id, model, pipeline):
        model.push_to_hub(repo_id)
        metadata_update(repo_id, {"license": "mit"})
        pipeline.push_to_hub(repo_id, tags=["later"])
        data = read_card(repo_id).data
        assert (data.license, data.pipeline_tag) == ("mit", "image-text-to-text")
        assert data.tags[-1] == "later"

    @NO_ANSWERS
    def test_of_the_hub_is_not_overwritten_unread(self, owner, repo_id, model, status):
        model.push_to_hub(repo_id)
        metadata_update(repo_id, {"license": "mit"})
        commits = len(owner.repos[repo_id].commits)
        with no_answer_about(CARD, status), pytest.raises(OSError, match=f"{CARD} of {repo_id} could not"):
            model.push_to_hub(repo_id)
        assert len(owner.repos[repo_id].commits) == commits

    def test_of_the_hub_is_not_the_one_of_the_cache(self, owner, repo_id, model):
        model.push_to_hub(repo_id)
        read_card(repo_id)  # into the cache
        metadata_update(repo_id, {"license": "mit"})
        with no_answer_about(CARD, 503), pytest.raises(OSError, match="nothing was uploaded"):
            model.push_to_hub(repo_id)
        assert b"license: mit" in owner.repos[repo_id].tree()[CARD].data

    @pytest.mark.parametrize("kind", ["model", "pipeline"])
    def test_of_the_folder_is_kept(self, repo_id, request, tmp_path, kind):
        mine = "---\nlicense: mit\n---\n\n# Mine\n"
        (tmp_path / CARD).write_text(mine)
        request.getfixturevalue(kind).save_pretrained(tmp_path, push_to_hub=True, repo_id=repo_id)
        assert (tmp_path / CARD).read_text() == mine
        assert (read_card(repo_id).text.strip(), read_card(repo_id).data.license) == ("# Mine", "mit")

    def test_tags_that_a_model_carries(self, repo_id, model, monkeypatch):
        monkeypatch.setattr(model, "model_tags", ["finetuned"])
        model.push_to_hub(repo_id, tags=["trial"])
        assert read_card(repo_id).data.tags[-2:] == ["finetuned", "trial"]
