# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Runs of `lavit eval` on a tiny model: protocols, doors, resumption, and what is refused before a model is loaded."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers.utils import ModelOutput

import benchmark_files
from benchmark_files import (
    CAPTIONS,
    NUMBERS,
    QUESTIONS,
    WRITERS,
    coco_name,
    picture,
    save_tiny_clip,
    write_coco_captions,
    write_rows,
)
from command_line import fail, succeed
from lavit_hf import LaVITForCausalLM, LaVITPipeline, LaVITProcessor, bundled_checkpoint
from lavit_hf.evaluation import EvaluationOptions, evaluate, requirements
from lavit_hf.evaluation.benchmarks import read_samples
from lavit_hf.evaluation.identity import digest_samples, digest_weights, identify_weights
from lavit_hf.evaluation.options import Tokenizer
from lavit_hf.evaluation.requests import _identify
from lavit_hf.tasks.dtypes import choose_dtype
from lavit_hf.tasks.failures import Failure
from lavit_hf.tasks.options import ModelOptions


pytest.importorskip("pycocoevalcap")

WORDS = ("--tokenizer", "words")


@pytest.fixture(scope="module")
def repo(repos):
    return str(repos["lowres"])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Each benchmark's files. Not to be changed."""
    folder = tmp_path_factory.mktemp("data")
    for task, write in WRITERS.items():
        (folder / task).mkdir()
        write(folder / task)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return save_tiny_clip(tmp_path_factory.mktemp("clip") / "clip")


@pytest.fixture(autouse=True)
def no_lemmas(monkeypatch):
    """A stand-in for spaCy, which is not installed for tests: an s at the end of a word is no part of its lemma."""
    from lavit_hf.evaluation import scoring

    monkeypatch.setattr(requirements, "check_lemmas", lambda: None)
    monkeypatch.setattr(
        scoring, "lemmatize_answer", lambda text: " ".join(word.removesuffix("s") for word in text.split())
    )


def options(task, data, repo, output, **settings) -> EvaluationOptions:
    settings = {"batch_size": 2, "tokenizer": Tokenizer.words, **settings}
    return EvaluationOptions(task, data, ModelOptions(repo), output, **settings)


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def comparable(result: dict, *also: str) -> dict:
    """What must be the same in two runs."""
    result = {name: value for name, value in result.items() if name not in ("seconds", "model", *also)}
    return result | {"answers": [{k: v for k, v in row.items() if k not in also} for row in result["answers"]]}


class Spy:
    """Takes the place of `generate`: records what reaches it, and writes what a function says of a prompt."""

    def __init__(self, processor, say):
        self.processor, self.say, self.calls = processor, say, []

    def __call__(self, model, input_ids, pixel_values, attention_mask, generator, return_dict_in_generate, **settings):
        keep_mask = model.get_image_features(pixel_values, generator=generator).keep_mask
        prompts = [self.processor.decode(ids[mask.bool()]) for ids, mask in zip(input_ids, attention_mask)]
        self.calls.append((prompts, settings))
        tokenizer = self.processor.tokenizer
        written = [tokenizer(self.say(prompt), add_special_tokens=False)["input_ids"] for prompt in prompts]
        longest = max(map(len, written))
        ids = [row + [tokenizer.pad_token_id] * (longest - len(row)) for row in written]
        sequences = torch.cat([input_ids, torch.tensor(ids)], dim=1)
        return ModelOutput(sequences=sequences, keep_mask=keep_mask)


@pytest.fixture
def spy(repo, monkeypatch):
    def start(say) -> Spy:
        spy = Spy(LaVITProcessor.from_pretrained(repo), say)
        monkeypatch.setattr(LaVITForCausalLM, "generate", lambda model, **inputs: spy(model, **inputs))
        return spy

    return start


@pytest.fixture
def no_model(monkeypatch):
    """No model may be loaded."""

    def load(*args, **kwargs):
        raise AssertionError("a model was loaded")

    for loaded in (LaVITForCausalLM, LaVITPipeline, LaVITProcessor):
        monkeypatch.setattr(loaded, "from_pretrained", load)


class TestProtocols:
    @pytest.mark.parametrize("task", ["coco", "nocaps"])
    def test_captions(self, task, data, repo, tmp_path, spy):
        spy = spy(lambda prompt: "a picture of noise. and more")
        result = evaluate(options(task, data / task, repo, tmp_path))
        assert {prompt for prompts, _ in spy.calls for prompt in prompts} == {"[IMG][/IMG]"}
        wanted = {"do_sample": False, "num_beams": 2, "min_new_tokens": 8, "max_new_tokens": 36}
        assert [settings for _, settings in spy.calls] == [wanted] * 3
        assert [row["answer"] for row in result["answers"]] == ["a picture of noise"] * 5
        assert set(result["scores"]) == {"CIDEr", "BLEU-4", "ROUGE-L", "exact"}
        assert set(result.get("by_kind", {})) == ({"near-domain", "out-domain"} if task == "nocaps" else set())

    @pytest.mark.parametrize("task", ["vqav2", "okvqa", "gqa"])
    def test_questions(self, task, data, repo, tmp_path, spy):
        spy = spy(lambda prompt: "verys, no" if "picture 2" in prompt else "no")
        result = evaluate(options(task, data / task, repo, tmp_path))
        prompts = sorted(prompt for prompts, _ in spy.calls for prompt in prompts)
        asked = [f"[IMG][/IMG] Question: {QUESTIONS[number]['question']} Answer:" for number in NUMBERS]
        assert prompts == sorted(asked)
        for _, settings in spy.calls:
            assert settings == {
                "do_sample": False,
                "num_beams": 5,
                "early_stopping": True,
                "length_penalty": 0.0,
                "min_new_tokens": 2,
                "max_new_tokens": 10,
            }
        assert [row["answer"] for row in result["answers"]] == ["no", "verys", "no", "no", "no"]
        # Lemmas on both sides: "verys" is "very". One of the annotators says "no", whom all others leave in.
        right = {n: (n + 4) / (n + 5) / 3 if task != "gqa" else 0.0 for n in NUMBERS} | {2: 1.0}
        assert [row["accuracy"] for row in result["answers"]] == pytest.approx([100 * right[n] for n in NUMBERS])
        assert result["scores"]["accuracy"] == pytest.approx(100 * sum(right.values()) / 5)
        assert result["protocol"]["lemmas"]

    def test_lemmas_of_annotations(self, repo, tmp_path, spy):
        spy(lambda prompt: "two dog")
        folder = WRITERS["gqa"](tmp_path)
        path = folder / "testdev_balanced_questions.json"
        path.write_text(json.dumps({id: row | {"answer": "2 dogs"} for id, row in read(path).items()}))
        assert evaluate(options("gqa", folder, repo, tmp_path / "output"))["scores"] == {"accuracy": 100.0}

    def test_vizwiz_asks_first(self, data, repo, tmp_path, spy):
        def say(prompt: str) -> str:
            if "answerable" in prompt:
                return "no" if "picture 3" in prompt else "yes"
            return "very"

        spy = spy(say)
        result = evaluate(options("vizwiz", data / "vizwiz", repo, tmp_path))
        question = QUESTIONS[2]["question"]
        prompts = [prompt for prompts, _ in spy.calls for prompt in prompts]
        assert f'[IMG][/IMG] Question: Is the question: "{question}" answerable? Answer:' in prompts
        assert f"[IMG][/IMG] Question: {question} Answer:" in prompts
        assert len(prompts) == 5 + 4  # one is not asked
        assert [row["answer"] for row in result["answers"]] == ["very", "very", "unanswerable", "very", "very"]

    def test_own_settings(self, data, repo, tmp_path, spy):
        spy = spy(lambda prompt: "very")
        evaluate(options("coco", data / "coco", repo, tmp_path, protocol="own"))
        assert [settings for _, settings in spy.calls] == [{}] * 3
        spy.calls.clear()
        evaluate(options("vqav2", data / "vqav2", repo, tmp_path, protocol="own"))
        assert {settings["min_new_tokens"] for _, settings in spy.calls} == {1}  # as `lavit ask` has it


class TestResults:
    @pytest.mark.slow
    def test_file_and_table(self, data, repo, tmp_path):
        output = tmp_path / "output"
        printed = succeed("eval", "coco", "--data", data / "coco", "-m", repo, "-o", output, "--batch-size", 2, *WORDS)
        result = read(output / "coco.json")
        assert printed.splitlines()[0].startswith(f"coco: CIDEr {result['scores']['CIDEr']:.1f}, BLEU-4 ")
        assert printed.splitlines()[-1] == str(output / "coco.json")
        assert [row["id"] for row in result["answers"]] == [str(number) for number in NUMBERS]
        dtype = choose_dtype(repo, torch.device("cpu"))
        model, processor = LaVITForCausalLM.from_pretrained(repo, dtype=dtype), LaVITProcessor.from_pretrained(repo)
        counts = [row["tokens"] for row in result["answers"]]
        assert all(1 <= count <= model.config.visual_tokenizer_config.num_patches for count in counts)
        mean = sum(counts) / 5
        assert result["tokens_per_image"] == pytest.approx(
            {"mean": mean, "std": (sum((count - mean) ** 2 for count in counts) / 5) ** 0.5}
        )
        assert result["number"] == 5 and result["skipped"] == [] and result["seconds"] > 0
        assert (result["dtype"], result["computed_in"]) == ("auto", str(dtype).removeprefix("torch."))
        assert result["versions"]["torch"] == torch.__version__.partition("+")[0]
        (line,) = csv.DictReader((output / "results.csv").open())
        assert (line["task"], line["protocol"], line["model"], line["number"]) == ("coco", "paper", repo, "5")
        assert line["scores"].startswith(f"CIDEr {result['scores']['CIDEr']:.1f}")
        # The first batch by hand, with its own draws.
        paths = [row["picture"] for row in result["answers"][:2]]
        inputs = processor(images=[[path] for path in paths], text=["", ""], return_tensors="pt").to(model.dtype)
        settings = {"do_sample": False, "num_beams": 2, "min_new_tokens": 8, "max_new_tokens": 36}
        ids = model.generate(**inputs, generator=torch.Generator().manual_seed(0), **settings)
        texts = processor.post_process_image_text_to_text(ids[:, inputs.input_ids.shape[1] :])
        assert [row["answer"] for row in result["answers"][:2]] == processor.post_process_caption(texts)

    def test_both_doors(self, data, repo, tmp_path):
        """The benchmark's own files and a folder of datasets give the same answers and scores."""
        pytest.importorskip("datasets")
        rows = write_rows(tmp_path / "rows")
        first = evaluate(options("vqav2", data / "vqav2", repo, tmp_path / "files"))
        second = evaluate(options("vqav2", rows, repo, tmp_path / "datasets"))
        assert comparable(first, "picture") == comparable(second, "picture")

    @pytest.mark.slow
    def test_batches_and_seeds_are_told_apart(self, data, repo, tmp_path):
        first, second = (
            evaluate(options("coco", data / "coco", repo, tmp_path / str(seed), seed=seed)) for seed in (0, 1)
        )
        assert [row["tokens"] for row in first["answers"]] != [row["tokens"] for row in second["answers"]]

    def test_as_json(self, data, repo, tmp_path):
        arguments = ("eval", "coco", "--data", data / "coco", "-m", repo, "-o", tmp_path, "--limit", 2, *WORDS)
        printed = json.loads(succeed(*arguments, "--json"))
        expected = read(tmp_path / "coco.json")
        del expected["answers"]
        assert printed == expected and printed["number"] == 2

    @pytest.mark.slow
    def test_two_processes(self, data, repo, tmp_path):
        settings = {"limit": 5, "batch_size": 1}
        alone = evaluate(options("coco", data / "coco", repo, tmp_path / "alone", **settings))
        launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m"]
        command = ["lavit_hf.cli", "eval", "coco", "--data", data / "coco", "-m", repo, "-o", tmp_path / "two"]
        command += ["--limit", "5", "--batch-size", "1", "--device", "cpu", *WORDS]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.run([*launch, *map(str, command)], capture_output=True, text=True, env=environment)
        assert process.returncode == 0, process.stderr
        together = read(tmp_path / "two" / "coco.json")
        assert comparable(together) == comparable(alone)
        assert len((tmp_path / "two" / "results.csv").read_text().splitlines()) == 2


class TestInterruption:
    @pytest.mark.slow
    def test_goes_on_where_it_stopped(self, data, repo, tmp_path, monkeypatch):
        whole = evaluate(options("vqav2", data / "vqav2", repo, tmp_path / "whole"))
        generate, calls = LaVITForCausalLM.generate, []

        def interrupted(model, **inputs):
            calls.append(len(inputs["input_ids"]))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return generate(model, **inputs)

        monkeypatch.setattr(LaVITForCausalLM, "generate", interrupted)
        again = options("vqav2", data / "vqav2", repo, tmp_path / "cut")
        with pytest.raises(KeyboardInterrupt):
            evaluate(again)
        assert not (tmp_path / "cut" / "vqav2.json").exists()
        (journal,) = (tmp_path / "cut").glob(".vqav2.unfinished/*.jsonl")
        assert len(journal.read_bytes().splitlines()) == 1
        with journal.open("ab") as file:
            file.write(b'{"number": 1, "answers": {"10": {"ans')  # a process that was killed as it wrote
        result = evaluate(again)
        assert calls == [2, 2, 2, 1]  # of three batches the one that was done is not written again
        assert comparable(result) == comparable(whole)
        assert comparable(read(tmp_path / "cut" / "vqav2.json")) == comparable(whole)
        assert not list((tmp_path / "cut").glob(".*"))

    def test_a_result_is_not_measured_again(self, data, repo, tmp_path, monkeypatch):
        first = evaluate(options("coco", data / "coco", repo, tmp_path))
        monkeypatch.setattr(LaVITForCausalLM, "from_pretrained", None)
        assert evaluate(options("coco", data / "coco", repo, tmp_path)) == first
        assert len((tmp_path / "results.csv").read_text().splitlines()) == 2

    def test_killed_between_result_and_table(self, data, repo, tmp_path, monkeypatch):
        def killed(*args):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(sys.modules["lavit_hf.evaluation.runs"], "add_to_table", killed)
            evaluate(options("coco", data / "coco", repo, tmp_path))
        evaluate(options("coco", data / "coco", repo, tmp_path))
        assert len((tmp_path / "results.csv").read_text().splitlines()) == 2
        assert not list(tmp_path.glob(".*"))


class TestIdentity:
    def test_pickled_adapters_are_told_apart(self, tmp_path):
        digests = set()
        for content in (b"one", b"two"):
            (tmp_path / "adapter_model.bin").write_bytes(content)
            digests.add(digest_weights(tmp_path))
        assert len(digests) == 2

    @pytest.mark.parametrize("task", ["coco", "vqav2", "coco-images", "rows"])
    def test_replaced_images_are_other_data(self, task, tmp_path):
        """With the same names, texts and ids; in another folder, the same images are the same data."""
        if task == "rows":
            pytest.importorskip("datasets")

        def digest(folder: Path, images=picture) -> str:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(benchmark_files, "picture", images)
                (write_rows if task == "rows" else WRITERS[task])(folder)
            return digest_samples(read_samples("captions" if task == "rows" else task, folder, None, None, 0))

        before = digest(tmp_path / "one")
        assert digest(tmp_path / "two") == before
        assert digest(tmp_path / "three", lambda number: picture(number + (number == 3))) != before

    def test_adapter_of_the_hub_has_no_config_of_a_model(self, monkeypatch):
        def find(repo: str, name: str) -> Path | None:
            return None if name == "config.json" else Path("/cache/snapshots/0123456789abcdef") / name

        monkeypatch.setattr("lavit_hf.tasks.hub_files.find_hub_file", find)
        assert identify_weights("org/adapter") == "0123456789ab"

    @pytest.mark.parametrize("model", [None, "lavit-emoji"])
    def test_bundled_checkpoint_by_any_name(self, model):
        assert _identify(model, str(bundled_checkpoint())) == digest_weights(Path(bundled_checkpoint()))


class TestRefusals:
    @pytest.fixture
    def done(self, data, repo, tmp_path):
        """A folder with a result."""
        evaluate(options("coco", data / "coco", repo, tmp_path, limit=2))
        return tmp_path

    @pytest.mark.parametrize(
        "name, change",
        [
            ("protocol", {"protocol": "own"}),
            ("seed", {"seed": 5}),
            ("data", {"limit": 3}),
            ("batch_size", {"batch_size": 1}),
        ],
    )
    def test_result_of_something_else(self, name, change, done, data, repo, no_model):
        before = {path: path.read_bytes() for path in done.iterdir()}
        with pytest.raises(
            Failure, match=rf"coco\.json has results of a run that differs in {name}. Delete it, or choose another"
        ):
            evaluate(options("coco", data / "coco", repo, done, **{"limit": 2, **change}))
        assert {path: path.read_bytes() for path in done.iterdir()} == before

    def test_result_of_another_model(self, done, data, repo, tmp_path_factory, no_model):
        other = tmp_path_factory.mktemp("other") / "model"
        shutil.copytree(repo, other)
        (other / "language_model" / "more.safetensors").write_bytes(b"other weights")
        message = fail("eval", "coco", "--data", data / "coco", "-m", other, "-o", done, "--limit", 2, *WORDS)
        assert "lavit eval: " in message and "differs in weights" in message

    @pytest.mark.parametrize("name", ["generation_config.json", "tokenizer_config.json", "language_model/config.json"])
    def test_result_of_the_same_weights_with_other_settings(self, name, done, data, repo, tmp_path_factory, no_model):
        other = tmp_path_factory.mktemp("other") / "model"
        shutil.copytree(repo, other)
        (other / name).write_text(json.dumps(read(other / name) | {"num_beams": 3}))
        with pytest.raises(Failure, match="differs in configuration"):
            evaluate(options("coco", data / "coco", str(other), done, limit=2))

    def test_other_files_of_a_repo_play_no_part(self, done, data, repo, tmp_path_factory):
        other = tmp_path_factory.mktemp("other") / "model"
        shutil.copytree(repo, other)
        (other / "coco.json").write_text("{}")
        assert evaluate(options("coco", data / "coco", str(other), done, limit=2))["number"] == 2

    def test_unfinished_run_of_something_else(self, data, repo, tmp_path, monkeypatch, no_model):
        (tmp_path / ".coco.unfinished").mkdir()
        (tmp_path / ".coco.unfinished" / "settings.json").write_text('{"task": "coco", "protocol": {"name": "own"}}')
        with pytest.raises(Failure, match="differs in protocol"):
            evaluate(options("coco", data / "coco", repo, tmp_path))

    def test_files_of_something_else(self, data, repo, tmp_path, no_model):
        (tmp_path / "results.csv").write_text("a,b\n")
        with pytest.raises(Failure, match="is not a table of evaluations"):
            evaluate(options("coco", data / "coco", repo, tmp_path))
        (tmp_path / "results.csv").unlink()
        (tmp_path / "coco.json").write_text("[1, 2]")
        with pytest.raises(Failure, match="is not the result of an evaluation"):
            evaluate(options("coco", data / "coco", repo, tmp_path))
        assert (tmp_path / "coco.json").read_text() == "[1, 2]"

    def test_pictures_of_something_else(self, data, repo, tmp_path, clip, no_model):
        (tmp_path / "coco-images").mkdir()
        settings = {"clip": str(clip), "fid": False, "protocol": "released"}
        with pytest.raises(Failure, match="coco-images already exists"):
            evaluate(options("coco-images", data / "coco-images", repo, tmp_path, **settings))

    def test_no_java(self, data, repo, tmp_path, monkeypatch, no_model):
        monkeypatch.setattr(requirements, "has_java", lambda: False)
        arguments = ("eval", "coco", "--data", data / "coco", "-m", repo, "-o", tmp_path / "output")
        assert "there is no Java" in fail(*arguments)
        assert "SPICE needs a Java runtime" in fail(*arguments, *WORDS, "--spice")
        assert not (tmp_path / "output").exists()

    @pytest.mark.parametrize(
        "task, missing, message",
        [
            (
                "coco",
                "pycocoevalcap",
                r"needs pycocoevalcap, which is not installed. Run `pip install 'lavit_hf\[eval\]'`",
            ),
            ("coco-images", "torchmetrics", r"needs torchmetrics, which is not installed"),
            ("coco-images", "torch_fidelity", r"needs torch_fidelity, which is not installed"),
        ],
    )
    def test_no_extra(self, task, missing, message, data, repo, tmp_path, monkeypatch, no_model):
        monkeypatch.setattr(requirements, "_is_there", lambda package: package != missing)
        with pytest.raises(Failure, match=message):
            evaluate(options(task, data / task, repo, tmp_path))

    def test_no_spacy(self, data, repo, tmp_path, monkeypatch, no_model):
        monkeypatch.undo()
        monkeypatch.setattr(requirements, "_is_there", lambda package: package != "en_core_web_sm")
        with pytest.raises(Failure, match=r"which needs en_core_web_sm. Run `python -m spacy download"):
            evaluate(options("vqav2", data / "vqav2", repo, tmp_path))

    def test_no_scorer_weights(self, data, repo, tmp_path, no_model):
        arguments = ("eval", "coco-images", "--data", data / "coco-images", "-m", repo, "-o", tmp_path / "output")
        assert "no file weights.pth with the Inception weights" in fail(*arguments, "--fid-weights", "weights.pth")
        message = fail(*arguments, "--no-fid", "--clip", tmp_path)
        assert f"the CLIP {tmp_path} cannot be loaded" in message and "--clip" in message
        assert not (tmp_path / "output").exists()

    def test_tasks_and_protocols(self, data, repo, tmp_path, no_model):
        assert "not one of" in fail("eval", "imagenet", "--data", data, exit_code=2)
        with pytest.raises(Failure, match="there is no task 'imagenet', only coco"):
            evaluate(options("imagenet", data, repo, tmp_path))
        with pytest.raises(Failure, match="coco has no protocol 'released', only paper, own"):
            evaluate(options("coco", data / "coco", repo, tmp_path, protocol="released"))

    def test_decoders(self, data, repos, converted, tmp_path, clip, no_model):
        settings = {"clip": str(clip), "fid": False, "protocol": "released"}
        with pytest.raises(Failure, match=r"draws with the low-resolution decoder, but .* has the other"):
            evaluate(options("coco-images", data / "coco-images", str(repos["highres"]), tmp_path, **settings))
        with pytest.raises(Failure, match="has no pixel decoder"):
            evaluate(options("coco-images", data / "coco-images", str(converted), tmp_path, **settings))


class TestBrokenPictures:
    def test_skipped_counted_and_named(self, repo, tmp_path, capfd):
        folder = WRITERS["coco"](tmp_path / "data")
        broken = folder / "val2014" / coco_name(2)
        broken.write_bytes(broken.read_bytes()[:200])
        result = evaluate(options("coco", folder, repo, tmp_path / "output"))
        assert result["number"] == 4 and [row["id"] for row in result["answers"]] == ["1", "3", "4", "5"]
        assert [(row["id"], row["picture"]) for row in result["skipped"]] == [("2", str(broken))]
        assert f"skipped {broken}: " in capfd.readouterr().err
        (line,) = csv.DictReader((tmp_path / "output" / "results.csv").open())
        assert line["skipped"] == "1"

    def test_none_left(self, repo, tmp_path, capfd):
        folder = WRITERS["coco"](tmp_path / "data")
        for path in (folder / "val2014").iterdir():
            path.write_bytes(b"nothing")
        with pytest.raises(Failure, match="none of the 5 images can be read"):
            evaluate(options("coco", folder, repo, tmp_path / "output"))
        assert list((tmp_path / "output").iterdir()) == []


class PipelineSpy:
    """Takes the place of the pipeline: records what it is told, and paints squares whose colors are counted on."""

    def __init__(self, pipeline):
        self.pipeline, self.calls, self.painted = pipeline, [], []

    def __call__(self, prompts, num_images_per_prompt, generator, **settings):
        self.calls.append((prompts, num_images_per_prompt, settings))
        count = len(prompts) * num_images_per_prompt
        pictures = [Image.new("RGB", (32, 32), (len(self.painted) + place, 0, 0)) for place in range(count)]
        self.painted += pictures
        first = self.pipeline.language_model.config.first_code_token_id
        ids = [torch.tensor([first - 2, *[first] * (place + 1), first - 1]) for place in range(count)]
        return type("Output", (), {"images": pictures, "image_token_ids": ids})


class TestPainting:
    @pytest.fixture
    def spy(self, monkeypatch):
        spies = []

        def call(pipeline, *args, **kwargs):
            if not spies:
                spies.append(PipelineSpy(pipeline))
            return spies[0](*args, **kwargs)

        monkeypatch.setattr(LaVITPipeline, "__call__", call)
        return spies

    def test_paper(self, data, repo, tmp_path, clip, spy, monkeypatch):
        from lavit_hf.evaluation.picture_scores import ClipScorer

        monkeypatch.setattr(
            ClipScorer,
            "choose",
            lambda self, pictures, prompt: max(range(4), key=lambda n: pictures[n].getpixel((0, 0))[0] % 3),
        )
        result = evaluate(options("coco-images", data / "coco-images", repo, tmp_path, clip=str(clip), fid=False))
        (spy,) = spy
        for prompts, count, settings in spy.calls:
            assert count == 4  # the best of 4 by CLIP
            assert settings == {
                "llm_guidance_scale": 2.0,
                "generation_kwargs": {"do_sample": True, "top_k": 200, "temperature": 1.0},
            }
            assert all(any(prompt in captions for captions in CAPTIONS.values()) for prompt in prompts)
        assert len(spy.painted) == 20 and result["number"] == 5
        saved = {Image.open(tmp_path / "coco-images" / row["answer"]).getpixel((0, 0))[0] for row in result["answers"]}
        expected = {max(range(start, start + 4), key=lambda n: n % 3) for start in range(0, 20, 4)}
        assert saved == expected
        # Of each batch the chosen one has as many codes as its place in the batch says.
        assert sorted(row["tokens"][0] for row in result["answers"]) == sorted(n % 8 + 1 for n in expected)
        assert set(result["scores"]) == {"CLIP score"}

    def test_released(self, data, repo, tmp_path, clip, spy):
        evaluate(
            options(
                "coco-images", data / "coco-images", repo, tmp_path, clip=str(clip), fid=False, protocol="released"
            )
        )
        for _, count, settings in spy[0].calls:
            assert count == 1
            assert settings == {
                "llm_guidance_scale": 1.5,
                "generation_kwargs": {"do_sample": True, "top_k": 300},
                "guidance_scale": 1.5,
                "num_inference_steps": 50,
            }

    def test_fid_of_painted_and_real(self, repo, tmp_path, clip, spy, monkeypatch, capfd):
        from test_scores import Averages
        from torchmetrics.image import fid

        known, sides = fid.FrechetInceptionDistance, []

        class Recording(known):
            def update(self, pictures, real):
                sides.append((real, tuple(pictures.shape)))
                super().update(pictures, real=real)

        monkeypatch.setattr(
            fid, "FrechetInceptionDistance", lambda feature_extractor_weights_path: Recording(feature=Averages())
        )
        folder = write_coco_captions(tmp_path / "data")
        broken = folder / "images" / "0002.jpg"
        broken.write_bytes(b"nothing")
        result = evaluate(options("coco-images", folder, repo, tmp_path / "output", clip=str(clip), protocol="own"))
        assert sorted(sides) == [(False, (1, 3, 32, 32))] * 4 + [(True, (1, 3, 40, 50))] * 4
        assert set(result["scores"]) == {"FID", "CLIP score"}
        assert [row["picture"] for row in result["skipped"]] == [str(broken)]
        assert result["number"] == 4
        assert [row["id"] for row in result["answers"] if "CLIP score" not in row] == [result["skipped"][0]["id"]]

    def test_fid_needs_two_images(self, repo, tmp_path, clip, no_model):
        folder = write_coco_captions(tmp_path / "data")
        settings = {"clip": str(clip), "protocol": "own", "limit": 1}
        with pytest.raises(Failure, match=r"FID needs at least two images, but there is one. Raise --limit"):
            evaluate(options("coco-images", folder, repo, tmp_path / "output", **settings))

    def test_geneval_and_dpg_bench(self, repo, tmp_path, spy):
        """Four images of each prompt, laid out for the benchmarks' own scorers; nothing is scored here."""
        geneval, dpg = tmp_path / "geneval", tmp_path / "dpg"
        entries = [{"tag": "color", "prompt": "a red dog"}, {"tag": "counting", "prompt": "two cats"}]
        geneval.mkdir()
        (geneval / "evaluation_metadata.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
        dpg.mkdir()
        (dpg / "12.txt").write_text("a red dog")
        result = evaluate(options("geneval", geneval, repo, tmp_path / "output", protocol="own"))
        folder = tmp_path / "output" / "geneval"
        assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")) == [
            f"{number:05d}/{name}"
            for number in range(2)
            for name in ("metadata.jsonl", *(f"samples/{sample:04d}.png" for sample in range(4)))
        ]
        assert json.loads((folder / "00001" / "metadata.jsonl").read_text()) == entries[1]
        assert result["scores"] == {}
        evaluate(options("dpg-bench", dpg, repo, tmp_path / "output", protocol="own"))
        grid = Image.open(tmp_path / "output" / "dpg-bench" / "12.png")
        assert grid.size == (64, 64)
        corners = [grid.getpixel(place)[0] for place in ((0, 0), (32, 0), (0, 32), (32, 32))]
        assert corners == [8, 9, 10, 11]  # in the order of reading, behind GenEval's eight

    @pytest.mark.slow
    def test_paints_for_real(self, repo, tmp_path, clip):
        folder = write_coco_captions(tmp_path / "data")
        settings = {"clip": str(clip), "fid": False, "protocol": "own", "limit": 2}
        result = evaluate(options("coco-images", folder, repo, tmp_path / "output", **settings))
        picture = Image.open(tmp_path / "output" / "coco-images" / result["answers"][0]["answer"])
        pipeline = LaVITPipeline.from_pretrained(repo)
        prompts = {str(n): captions for n, captions in CAPTIONS.items()}
        assert picture.size == (pipeline.picture_size,) * 2
        assert result["answers"][0]["id"] in prompts
        assert result["tokens_per_image"]["mean"] >= 1
