# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The figures of the emoji checkpoint, on answers, masks and images made by hand."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lavit_hf import (
    LaVITForCausalLM,
    LaVITImageProcessor,
    LaVITProcessor,
    LaVITVisualTokenizer,
    LaVITVisualTokenizerForPreTraining,
    bundled_checkpoint,
)
from lavit_hf.tasks.failures import Failure
from lavit_hf.tasks.reading import CAPTION, answer_to, generate_texts
from tiny_training_models import build


datasets = pytest.importorskip("datasets")

EXAMPLE = Path(__file__).parents[2] / "examples" / "emoji"
sys.path.insert(0, str(EXAMPLE))
import evaluate  # noqa: E402
from lavit_emoji.measures import targets  # noqa: E402
from lavit_emoji.measures.guessing import score_guesses  # noqa: E402
from lavit_emoji.measures.judge import Judge, best_ranks, score_ranks, windows  # noqa: E402
from lavit_emoji.measures.keeping import (  # noqa: E402
    Sheets,
    encode,
    kept_figures,
    load_detokenizer,
    mark_kept,
    rebuilt_figures,
    select,
)
from lavit_emoji.measures.looking import ClassMeans, Looker, averaged  # noqa: E402
from lavit_emoji.measures.reading import Drawings, Reader, name_figures, sheet_figures  # noqa: E402
from lavit_emoji.measures.scoring import score_answers, score_names, score_pairs  # noqa: E402
from show_kept import choose_sheets  # noqa: E402


EMOJI = sorted((EXAMPLE.parent / "images" / "emoji").glob("*.png"))
RED, BLUE, GREEN, WHITE = (220, 20, 20), (20, 20, 220), (20, 180, 20), (255, 255, 255)


# What is said


def test_names():
    said = ["Red Apple ", "apple pie", "man of the sea", "dog"]
    names = ["red apple", "red apple", "house of cards", "poodle"]
    keywords = [["fruit"], ["fruit"], ["building"], ["pet dog"]]
    assert score_names(said, names, keywords) == {
        "number": 4,
        "exact": 1 / 4,
        "right_keyword": 3 / 4,  # `of` is no right word
        "words_of_name": (1 + 1 / 2 + 0 + 0) / 4,
    }


def test_no_names():
    with pytest.raises(ValueError, match="no drawings"):
        score_names([], [], [])


def test_both_are_named():
    captions = ["a Red Apple and a dog", "a dog and a cat face", "two cats", "a black cat and a blue green book"]
    nouns = [("apple", "dog"), ("dog", "cat"), ("cat", "dog"), ("black cat", "green book")]
    assert score_pairs(captions, nouns) == {"number": 4, "both": 2 / 4, "at_least_one": 3 / 4}


def test_answers_by_subject():
    asked = [
        ("place", "What is left of the cat?", "red dog", "Red dog "),
        ("place", "What is above the cat?", "dog", "cat"),
        ("yes_no", "Is the cat left of the dog?", "yes", "no"),
        ("yes_no", "Is there a cat?", "no", "no"),
        ("number", "How many cats are there?", "2", "2"),
    ]
    assert score_answers(*zip(*asked, strict=True)) == {
        "left_right": {"number": 1, "right": 1.0},
        "number": {"number": 1, "right": 1.0},
        "place": {"number": 2, "right": 0.5},
        "yes_no": {"number": 2, "right": 0.5},
        "yes_no_side": {"number": 1, "right": 0.0},
    }


def sheet(caption: str, nouns: list[str], *asked: tuple[str, str, str]) -> dict:
    kinds, questions, answers = (list(column) for column in zip(*asked, strict=True))
    told = {"caption": caption, "nouns": nouns, "names": nouns}
    told |= {"kinds": kinds, "questions": questions, "answers": answers}
    return {"image": Image.new("RGB", (8, 8), (len(caption), 0, 0)), **told}


SHEETS = [
    sheet("a cat", ["cat"], ("number", "How many drawings are there?", "1")),
    sheet("a cat and a dog", ["cat", "dog"], ("place", "What is left of the dog?", "cat"), ("yes_no", "Is it?", "no")),
    sheet("two cats", ["cat", "cat"], ("number", "How many cats are there?", "2")),
]


class WellRead:
    """Says the right caption of the sheets by their color, and `no` to every question but one."""

    def caption(self, images, **settings):
        captions = {len(row["caption"]): row["caption"] for row in SHEETS}
        return [captions[image.getpixel((0, 0))[0]] for image in images]

    def answer(self, images, questions):
        return ["cat" if question == "What is left of the dog?" else "no" for question in questions]


def test_sheets():
    rows = datasets.Dataset.from_list(SHEETS)
    figures = sheet_figures(WellRead(), rows, rows)
    assert figures["captions"] == {"number": 1, "both": 1.0, "at_least_one": 1.0, "exact": 1.0}
    right = {name: (score["number"], score["right"]) for name, score in figures["questions"].items()}
    assert right == {"left_right": (1, 1), "number": (2, 0), "place": (1, 1), "yes_no": (1, 1)}
    guessed = {name: score["by_words"] for name, score in figures["questions"].items()}
    assert guessed == {name: score["by_words"] for name, score in score_guesses(SHEETS, SHEETS).items()}


def test_everyday_drawings_have_figures_of_their_own():
    drawings = Drawings([], ["cat", "dog", "bird"], [[], [], []], [True, False, True])
    figures = name_figures(["cat", "cat", "cat"], drawings)
    assert (figures["all"]["number"], figures["everyday"]["number"]) == (3, 2)
    assert (figures["all"]["exact"], figures["everyday"]["exact"]) == (pytest.approx(1 / 3), 1 / 2)


def test_reads_as_the_commands_do():
    """In batches of images, and of questions that are not of one length, it says what `lavit` says of each."""
    processor = LaVITProcessor.from_pretrained(bundled_checkpoint())
    model = LaVITForCausalLM.from_pretrained(bundled_checkpoint(), dtype=torch.float32)
    reader, images = Reader(model, processor, batch_size=2), [Image.open(path).convert("RGB") for path in EMOJI[:3]]
    generator = torch.Generator()

    def by_command(task, image):
        return generate_texts(task, [task.prepare(processor, image)], processor, model, generator)[0]

    questions = ["What is this?", "What category is this?", "How many?"]
    assert reader.caption(images) == [by_command(CAPTION, image) for image in images]
    expected = [by_command(answer_to(question), image) for image, question in zip(images, questions, strict=True)]
    assert reader.answer(images, questions) == expected


# What the encoder sees


class ByColor:
    """Looks at an image's mean color, twice."""

    def __call__(self, images):
        means = [np.asarray(image.convert("RGB"), dtype=np.float32).mean(axis=(0, 1)) / 255 for image in images]
        return torch.from_numpy(np.stack(means)).repeat(1, 2)


def plain(color: tuple[int, int, int], size: int = 16) -> Image.Image:
    return Image.new("RGB", (size, size), color)


def test_nearest_class_mean():
    looks = torch.tensor([[0.0, 0.0, 9.0, 9.0], [2.0, 0.0, 9.0, 9.0], [5.0, 0.0, 0.0, 0.0]])
    probe = ClassMeans(averaged(looks), ["b", "b", "a"])
    # 2.9 is nearer to the mean of b, at 1, than to a, at 5; what is at its largest does not count
    seen = averaged(torch.tensor([[2.9, 0.0, 0.0, 0.0], [3.1, 0.0, 9.0, 9.0]]))
    assert probe(seen) == ["b", "a"]
    assert probe.nearest(seen, 2) == [["b", "a"], ["a", "b"]]


def test_looks_are_remembered(tmp_path):
    tokenizer = build(LaVITVisualTokenizer, "vit").eval()
    looker = Looker(tokenizer, LaVITImageProcessor(size={"height": 32, "width": 32}), tmp_path)
    first = looker.remember("two", lambda: [plain(RED), plain(BLUE)])
    features = tokenizer.encode(looker.image_processor([plain(RED)], return_tensors="pt").pixel_values)
    pooled = features.last_hidden_state[0]
    expected = torch.cat([pooled.mean(dim=0), pooled.amax(dim=0)])
    torch.testing.assert_close(first[0], expected.detach(), rtol=0.05, atol=0.05)  # in bf16

    def forbidden():
        raise AssertionError("looked again")

    assert torch.equal(looker.remember("two", forbidden), first)
    with torch.no_grad():
        next(tokenizer.encoder.parameters()).mul_(2)
    with pytest.raises(AssertionError, match="looked again"):  # it is another encoder now
        looker.remember("two", forbidden)


# The judge


@pytest.fixture(scope="module")
def judge() -> Judge:
    names, colors = ["red", "blue", "green", "white"], [RED, BLUE, GREEN, WHITE]
    pictures = [plain(tuple(min(level + shade, 255) for level in color)) for shade in range(9) for color in colors]
    return Judge(ByColor(), ByColor()(pictures), names * 9)


def test_judge_names_what_it_has_learned(judge):
    looks = judge.look([plain(RED), plain(BLUE), plain(RED)])
    assert judge.rank(looks, ["red", "blue", "blue"])[:2].tolist() == [0, 0]
    assert judge.rank(looks, ["red", "blue", "blue"])[2] > 0
    assert judge.rank(looks[2:], ["blue"], among={"blue"}).tolist() == [0]


def test_judge_does_not_know_every_name(judge):
    with pytest.raises(ValueError, match="does not know 'violet'"):
        judge.rank(judge.look([plain(RED)]), ["violet"])


def test_first_and_first_five():
    ranks = torch.tensor([0, 0, 4, 5])
    assert score_ranks(ranks) == {"number": 4, "first": 0.5, "first_five": 0.75}


def test_two_things_are_found_in_windows(judge):
    picture = plain(WHITE, 64)
    picture.paste(RED, (0, 0, 32, 64))
    picture.paste(BLUE, (32, 0, 64, 64))
    ranks = best_ranks(judge, [picture, plain(RED, 64)], [("red", "blue"), ("red", "blue")])
    assert ranks[0].tolist() == [0, 0]
    assert ranks[1, 0] == 0 and ranks[1, 1] > 0
    assert min(view.width for view in windows(picture)) == 32


# What is kept

SIDE = 4


def hand_made_sheets() -> tuple[torch.Tensor, torch.Tensor, Sheets]:
    """Two sheets: a drawing in the corner, wholly and partly, and one that is twice as large."""
    drawn = torch.zeros(2, SIDE * SIDE)
    drawn[0, 0], drawn[0, 1] = 1.0, 0.5
    drawn[1, :4] = 1.0
    distance = torch.tensor([[0, 0, 1, 2] + [1, 1, 1, 2] + [2] * 8, [0] * 4 + [1] * 4 + [2] * 8])
    kept = torch.zeros(2, SIDE * SIDE, dtype=torch.bool)
    kept[0, 0] = kept[0, 15] = True
    kept[1, :4] = True
    probs = torch.where(kept, 0.95, 0.2)
    return kept, probs, Sheets(torch.zeros(2, SIDE * SIDE, 3), drawn, distance, torch.tensor([1, 2]))


def test_kept_patches():
    figures = kept_figures(*hand_made_sheets())
    assert figures["kept"]["inside"] == 1.0  # five of five
    assert figures["kept"]["edge"] == 0.0
    assert figures["kept"]["drawn"] == pytest.approx(5 / 6)
    assert figures["kept"]["touching"] == 0.0
    assert figures["kept"]["far"] == pytest.approx(1 / 18)
    assert figures["kept"]["drawn_at_border"] == pytest.approx(5 / 6)
    assert figures["count_by_number"] == [2.0, 4.0]
    assert (figures["count"], figures["four_to_one"], figures["count_to_drawn_area"]) == (3.0, 2.0, pytest.approx(1))
    by_lot = (6 * 0.95 + 26 * 0.2) / 2
    assert figures["count_by_lot"] == pytest.approx(by_lot)
    assert figures["lot_to_threshold"] == pytest.approx(by_lot / 3)
    assert figures["undecided"] == pytest.approx(26 / 32)
    assert figures["probability"]["drawn"] == pytest.approx((5 * 0.95 + 0.2) / 6)


@pytest.fixture(scope="module")
def stage_1(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stage-1")
    build(LaVITVisualTokenizerForPreTraining, "vit").save_pretrained(folder)
    LaVITImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def sheet_rows(number: int = 5) -> datasets.Dataset:
    chance = np.random.default_rng(0)
    return datasets.Dataset.from_list(
        [
            {
                "image": Image.fromarray(chance.integers(0, 255, (32, 32, 3), dtype=np.uint8)),
                "names": ["cat"] * (1 + row % 2),
                "drawn": [1.0] * 8 + [0.0] * 8,
                "distance": [0] * 8 + [1] * 4 + [2] * 4,
            }
            for row in range(number)
        ]
    )


def test_rebuilt_features(stage_1):
    tokenizer = LaVITVisualTokenizer.from_pretrained(stage_1).eval()
    detokenizer = load_detokenizer(stage_1, tokenizer)
    processor = LaVITImageProcessor.from_pretrained(stage_1)
    rows = sheet_rows()
    sheets = encode(rows, tokenizer, processor)
    kept, _ = select(tokenizer, sheets.features)
    figures = rebuilt_figures(tokenizer, detokenizer, kept, sheets, seed=0)
    with torch.no_grad():
        outputs = tokenizer(processor(list(rows["image"]), return_tensors="pt").pixel_values)
        rebuilt = detokenizer(codes=outputs.codes).features
    assert torch.equal(outputs.keep_mask, kept)
    cosines = torch.nn.functional.cosine_similarity(rebuilt, outputs.last_hidden_state, dim=-1)
    assert figures["selected"] == pytest.approx(cosines.mean().item(), abs=1e-5)
    assert figures["selected_drawn"] == pytest.approx(cosines[:, :8].mean().item(), abs=1e-5)
    assert figures["codes_used"] == len(torch.cat(outputs.codes).unique()) / tokenizer.config.codebook_size
    assert -1 <= figures["random"] <= 1 and figures["random"] != figures["selected"]
    assert sheets.number.tolist() == [1, 2, 1, 2, 1]


def test_visual_tokenizer_alone_rebuilds_nothing(tmp_path):
    build(LaVITVisualTokenizer, "vit").save_pretrained(tmp_path)
    assert load_detokenizer(tmp_path, LaVITVisualTokenizer.from_pretrained(tmp_path)) is None


def test_dropped_patches_are_dimmed(stage_1):
    tokenizer, processor = (loaded.from_pretrained(stage_1) for loaded in (LaVITVisualTokenizer, LaVITImageProcessor))
    image = sheet_rows(1)[0]["image"]
    marked = np.asarray(next(mark_kept([image], tokenizer.eval(), processor, size=128))).astype(int)
    features = tokenizer.encode(processor([image], return_tensors="pt").pixel_values).last_hidden_state
    kept, _ = select(tokenizer, features)
    assert 0 < kept.sum() < SIDE * SIDE
    colorful = marked.max(axis=-1) - marked.min(axis=-1) > 8
    patches = colorful.reshape(SIDE, 32, SIDE, 32).swapaxes(1, 2).reshape(SIDE * SIDE, -1).mean(axis=1)
    assert [share > 0.5 for share in patches] == kept[0].tolist()


def test_sheets_to_show_are_of_one_to_four():
    rows = datasets.Dataset.from_list(
        [
            {"image": Image.new("RGB", (8, 8), (row, count, 0)), "names": ["cat"] * count}
            for row, count in enumerate((2, 1, 1, 4, 3, 2, 3, 4))
        ]
    )
    shown = choose_sheets(rows, 6)
    assert [image.getpixel((0, 0))[:2] for image in shown] == [(1, 1), (0, 2), (4, 3), (3, 4), (2, 1), (5, 2)]


# The whole of it


class Counting:
    """An evaluation that only counts how often each part is measured."""

    def __init__(self, folder: Path):
        self.model, self.output, self.seed, self.limit = folder / "model", folder / "output", 0, None
        self.set = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"name": ["cat", "dog"]})})
        self.sheets = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"caption": ["a cat and a dog"]})})
        self.model.mkdir(exist_ok=True)
        (self.model / "model.safetensors").write_bytes(b"weights")
        self.measured = []

    def captions(self) -> dict:
        self.measured.append("captions")
        return {"exact": 1 / 3, "number": 3}

    def kept(self) -> dict:
        self.measured.append("kept")
        if self.measured.count("kept") == 1:
            raise KeyboardInterrupt
        return {"count": [1.0, 2.0]}


def test_goes_on_with_the_part_where_it_stopped(tmp_path):
    evaluation = Counting(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        evaluate.measure(evaluation, ["captions", "kept"])
    figures = evaluate.measure(evaluation, ["captions", "kept"])
    assert evaluation.measured == ["captions", "kept", "kept"]
    written = json.loads((tmp_path / "output" / "evaluation.json").read_text())
    assert written["captions"] == {"exact": 0.3333, "number": 3}
    assert written["kept"] == figures["kept"] == {"count": [1.0, 2.0]}
    evaluate.measure(evaluation, ["captions"], again=True)
    assert evaluation.measured[-1] == "captions"


def test_figures_of_another_model_are_not_mixed(tmp_path):
    evaluation = Counting(tmp_path)
    evaluate.measure(evaluation, ["captions"])
    (evaluation.model / "model.safetensors").write_bytes(b"other")
    with pytest.raises(Failure, match=r"differs in model\. Delete it"):
        evaluate.measure(evaluation, ["captions"])


def test_figures_of_other_data_are_not_mixed(tmp_path):
    evaluation = Counting(tmp_path)
    evaluate.measure(evaluation, ["captions"])
    evaluation.sheets["train"] = datasets.Dataset.from_dict({"caption": ["a cat and a cow"]})
    with pytest.raises(Failure, match=r"differs in sheets\. Delete it"):
        evaluate.measure(evaluation, ["captions"])


def test_parts():
    assert evaluate.parse_parts(None, targets.PARTS) == list(targets.PARTS)
    assert evaluate.parse_parts("kept,captions", targets.PARTS) == ["kept", "captions"]
    with pytest.raises(ValueError, match="no part 'pictures' to measure, only kept"):
        evaluate.parse_parts("pictures", ["kept"])


def test_stage_1_has_only_what_it_keeps(stage_1, tmp_path):
    data, sheets = tmp_path / "set", tmp_path / "sheets"
    datasets.DatasetDict({"train": sheet_rows()}).save_to_disk(data)
    splits = dict.fromkeys(evaluate.KEPT, sheet_rows())
    datasets.DatasetDict(splits).save_to_disk(sheets)
    evaluation = evaluate.Evaluation(stage_1, data, sheets, tmp_path / "out", tmp_path / "cache", limit=4)
    assert evaluation.parts == ["kept"]
    kept = evaluate.measure(evaluation, evaluation.parts)["kept"]["test_drawings"]
    assert 1 <= kept["count"] <= SIDE * SIDE and -1 <= kept["rebuilt"]["selected"] <= 1


def test_train_sample_is_like_the_test_split(stage_1, tmp_path):
    """Random drawings by the artists of the test split, and not more than the sample size."""
    styles = ["noto", "icons"] * 600 + ["twemoji"] * 800
    drawings = {"train": datasets.Dataset.from_dict({"style": styles, "number": range(len(styles))})}
    drawings["test_drawings"] = datasets.Dataset.from_dict({"style": ["twemoji", "noto"], "number": [0, 1]})
    sheets = {"train": datasets.Dataset.from_dict({"number": range(5)})}
    for folder, splits in (("set", drawings), ("sheets", sheets)):
        datasets.DatasetDict(splits).save_to_disk(tmp_path / folder)
    folders = (stage_1, tmp_path / "set", tmp_path / "sheets", tmp_path / "out", tmp_path / "cache")
    evaluation = evaluate.Evaluation(*folders)
    sample = evaluation.rows(evaluation.set, "train")
    assert len(sample) == len(set(sample["number"])) == evaluate.TRAIN_SAMPLE
    assert set(sample["style"]) == {"noto", "twemoji"}
    assert sample["number"] != sorted(sample["number"])
    assert sorted(evaluation.rows(evaluation.sheets, "train")["number"]) == list(range(5))
    assert evaluation.rows(evaluation.set, "test_drawings")["number"] == [0, 1]
    assert len(evaluate.Evaluation(*folders, limit=3).rows(evaluation.set, "train")) == 3


# What must be reached


def test_table_has_both_checkpoints_and_what_stands_beside():
    names = {"number": 1370, "exact": 0.31, "right_keyword": 0.42}
    probe = {"exact": 0.30, "right_keyword": 0.40}
    figures = {"stranger": {"model": {"all": names}, "probe": {"all": probe}}}
    before = {"stranger": {"model": {"all": {"exact": 0.15, "right_keyword": 0.22}}}}
    table = targets.targets_table(figures, before)
    assert (
        "| the same for an unseen artist, OpenMoji | 1,370 | 0.15, 0.22 | 0.31, 0.42 | probe 0.30, probe keyword 0.40 "
        "| 0.30, 0.40, above the probe |" in table
    )
    assert "| ratio of kept patches, sampled against by threshold |  | - | - |  | 0.85 to 1.15 |" in table
    assert len(table.splitlines()) == len(targets.ROWS) + 2


def kept(drawn: float, far: float, lot: float, four: float = 1.5) -> dict:
    one = {"kept": {"drawn": drawn, "far": far}, "lot_to_threshold": lot, "count_to_drawn_area": 0.7}
    return {"kept": {"test_drawings": one, "test_drawings_one_size": {"four_to_one": four}}}


@pytest.mark.parametrize(
    ("figures", "short"),
    [
        (kept(0.6, 0.05, 1.1), []),
        (kept(0.6, 0.0, 0.9), []),
        (kept(0.6, 0.07, 1.2), [["0.60, 0.07 (target", "10 times as many)"], ["1.20 (target", "0.85 to 1.15)"]]),
        (kept(0.6, 0.0, 1.0, four=1.2), [["1.20 (target", "1.30)"]]),
    ],
)
def test_shortfalls(figures, short):
    assert [line.rsplit(": ", 2)[1:] for line in targets.shortfalls(figures, {})] == short


def test_above_the_probe():
    def lines(exact: float) -> list[str]:
        model, probe = ({"exact": value, "right_keyword": value + 0.1} for value in (exact, 0.32))
        return targets.shortfalls({"stranger": {"model": {"all": model}, "probe": {"all": probe}}}, {})

    assert lines(0.33) == [] and len(lines(0.31)) == 1


@pytest.mark.parametrize(("seconds", "short"), [(5.6, 0), (6.1, 0), (6.3, 1)])
def test_no_slower(seconds, short):
    before = {"seconds": {"caption": 5.6}}
    assert len(targets.shortfalls({"seconds": {"caption": seconds}}, before)) == short
