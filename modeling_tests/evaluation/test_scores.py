# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Scores of a hundred hand-made answers and captions, against what other published implementations give for them.

`answers.json` has the accuracies of the official evaluation of VQA; `captions.json` the Penn Treebank's words and the
scores of aac-metrics 0.6.0.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel

from benchmark_files import save_tiny_clip
from lavit_hf.evaluation import normalize_answer, score_captions, vqa_accuracy
from lavit_hf.tasks.failures import Failure


FOLDER = Path(__file__).parent
RED, BLUE = (255, 0, 0), (0, 0, 255)


class TestAnswers:
    def test_official_accuracies(self):
        rows = json.loads((FOLDER / "answers.json").read_text())
        assert len(rows) == 100
        assert [vqa_accuracy(answer, references) for answer, references, _ in rows] == pytest.approx(
            [accuracy for _, _, accuracy in rows]
        )

    def test_annotators_are_left_out_in_turn(self):
        # Of two that agree, each leaves one: 1/3; the other eight leave two: 2/3.
        assert vqa_accuracy("two", ["2"] * 2 + ["3"] * 8) == pytest.approx((2 * 1 / 3 + 8 * 2 / 3) / 10)
        assert vqa_accuracy("two", ["2"] * 4 + ["3"] * 6) == 1.0
        assert vqa_accuracy("4", ["2"] * 4 + ["3"] * 6) == 0.0

    def test_one_annotator(self):
        assert vqa_accuracy("The Red bus.", ["red bus"]) == 1.0
        assert vqa_accuracy("bus", ["red bus"]) == 0.0

    @pytest.mark.parametrize(
        "answer, normal",
        [
            (" Two dogs.\n", "2 dogs"),
            ("dont know", "don't know"),
            ("1,000?", "1000"),
            ("left/right", "left right"),
            ("a/ b", "b"),  # beside a space a mark vanishes, and with it what is then an article
            ("3.50", "3.50"),
            ("", ""),
        ],
    )
    def test_normal_forms(self, answer, normal):
        assert normalize_answer(answer) == normal

    def test_nobody_to_compare_with(self):
        with pytest.raises(ValueError, match="no annotators"):
            vqa_accuracy("cat", [])


@pytest.fixture(scope="module")
def rows():
    pytest.importorskip("pycocoevalcap")
    return json.loads((FOLDER / "captions.json").read_text())


class TestCaptions:
    def test_published_scores(self, rows):
        said, told = zip(*(row["words"] for row in rows["rows"]))
        scored = score_captions(said, told, tokenizer="words")
        assert len(said) == 100
        assert {name: scored.scores[name] for name in rows["scores"]} == pytest.approx(rows["scores"])
        for name in ("CIDEr", "ROUGE-L"):
            each = [scores[name] for scores in scored.each]
            assert each == pytest.approx([row[name] for row in rows["rows"]], abs=1e-5)

    @pytest.mark.skipif(shutil.which("java") is None, reason="Java is not installed")
    def test_treebank(self, rows):
        said, told = zip(*((row["caption"], row["references"]) for row in rows["rows"]))
        scored = score_captions(said, told)
        assert {name: scored.scores[name] for name in rows["scores"]} == pytest.approx(rows["scores"])

    def test_words(self, rows):
        scored = score_captions([" A red dog!", "cats"], [["a Red  dog!", "dog"], ["cat"]], tokenizer="words")
        assert [scores["ROUGE-L"] for scores in scored.each] == [100.0, 0.0]
        assert [scores["exact"] for scores in scored.each] == [100.0, 0.0]
        assert scored.scores["exact"] == 50.0

    def test_nothing_to_score(self, rows):
        for captions, references in (([], []), (["cat"], []), (["cat"], [[]])):
            with pytest.raises(ValueError, match="references for each"):
                score_captions(captions, references)


class Averages(torch.nn.Module):
    """Features that are known: the mean of each color."""

    num_features = 3

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.float().mean(dim=(2, 3))


def noise(number: int, side: int = 32) -> Image.Image:
    draw = np.random.default_rng(number)
    return Image.fromarray(draw.integers(0, draw.integers(100, 256, 3), (side, side, 3)).astype(np.uint8))


class TestPictures:
    @pytest.fixture(scope="class")
    def clip(self, tmp_path_factory):
        pytest.importorskip("torchmetrics")
        return save_tiny_clip(tmp_path_factory.mktemp("clip") / "clip")

    def test_clip_score(self, clip):
        from lavit_hf.evaluation.picture_scores import ClipScorer

        scorer = ClipScorer(str(clip), torch.device("cpu"))
        pictures = [Image.new("RGB", (32, 32), color) for color in (RED, BLUE, (9, 99, 9))]
        inputs = scorer.processor(text=["a red dog"], images=pictures, return_tensors="pt", padding=True)
        model = CLIPModel.from_pretrained(clip)
        with torch.no_grad():
            cosines = model(**inputs).logits_per_text[0] / model.logit_scale.exp()
        each = [scorer.add(picture, "a red dog") for picture in pictures]
        assert each == pytest.approx((100 * cosines.clamp(min=0)).tolist(), abs=1e-3)
        assert scorer.choose(pictures, "a red dog") == int(cosines.argmax())
        assert scorer.score() == pytest.approx(max(100 * float(cosines.mean()), 0), abs=1e-3)

    def test_fid(self, monkeypatch):
        pytest.importorskip("torchmetrics")
        from torchmetrics.image import fid

        from lavit_hf.evaluation.picture_scores import FidScorer

        known = fid.FrechetInceptionDistance
        monkeypatch.setattr(
            fid, "FrechetInceptionDistance", lambda feature_extractor_weights_path: known(feature=Averages())
        )
        scorer = FidScorer(None, torch.device("cpu"))
        sides = {True: [noise(number, 32 + number) for number in range(12)], False: [noise(n) for n in range(50, 60)]}
        for real, pictures in sides.items():
            scorer.add(pictures, real)
        first, second = (
            np.array([np.asarray(picture, dtype=float).mean(axis=(0, 1)) for picture in pictures])
            for pictures in sides.values()
        )
        covariances = [np.cov(features, rowvar=False) for features in (first, second)]
        roots = np.sqrt(np.linalg.eigvals(covariances[0] @ covariances[1]).real.clip(min=0)).sum()
        distance = ((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum()
        assert scorer.score() == pytest.approx(distance + sum(map(np.trace, covariances)) - 2 * roots, rel=1e-3)

    def test_weights_that_cannot_be_loaded(self, tmp_path):
        pytest.importorskip("torch_fidelity")
        from lavit_hf.evaluation.picture_scores import ClipScorer, FidScorer

        (tmp_path / "weights.pth").write_bytes(b"no weights")
        with pytest.raises(Failure, match=r"weights\.pth, which FID needs, cannot be loaded.*--fid-weights"):
            FidScorer(tmp_path / "weights.pth", torch.device("cpu"))
        with pytest.raises(Failure, match=r"cannot be loaded.*--clip"):
            ClipScorer(str(tmp_path), torch.device("cpu"))
