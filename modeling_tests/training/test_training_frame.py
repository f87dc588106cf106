# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The training frame: settings, data, shards, figures, and what stops a run. The models are one layer."""

import errno
import io
import json
import logging
import tarfile
import zipfile
from dataclasses import dataclass, field
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import Accelerator
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry as REGISTRY
from PIL import Image
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, TrainingArguments
from transformers.utils import ModelOutput


datasets = pytest.importorskip("datasets")

from lavit_hf.training.data import load_split, skip_broken_images  # noqa: E402
from lavit_hf.training.encoded_images import read_image  # noqa: E402
from lavit_hf.training.errors import TrainingError  # noqa: E402
from lavit_hf.training.feature_rows import from_bytes, to_bytes  # noqa: E402
from lavit_hf.training.meters import LossMeter, TokenizerMeter  # noqa: E402
from lavit_hf.training.settings import find_checkpoint, last_checkpoint, load_settings  # noqa: E402
from lavit_hf.training.shards import read_shards, write_shards  # noqa: E402
from lavit_hf.training.trainer import LaVITTrainer  # noqa: E402
from training_runs import write_pictures  # noqa: E402


@dataclass
class ToySettings:
    model: str = field(metadata={"help": "Needed."})
    rate: float = 0.5
    split: str | None = None


class LineConfig(PreTrainedConfig):
    model_type = "line"


class Line(PreTrainedModel):
    """One number that is to become another."""

    config_class = LineConfig

    def __init__(self, config):
        super().__init__(config)
        self.layer = nn.Linear(1, 1)
        self.post_init()

    def _init_weights(self, module):
        pass

    def forward(self, x, bent=None):
        loss = (self.layer(x) - 2 * x).square().mean()
        if bent is not None:
            # Zero in value; where `bent` is zero, its gradient is no number.
            loss = loss + (self.layer.weight.abs().sum() * bent.min()).sqrt() * 0
        return ModelOutput(loss=loss, distance_loss=loss)


def training_arguments(folder, **settings) -> TrainingArguments:
    common = {
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "learning_rate": 0.1,
        "use_cpu": True,
        "logging_steps": 1,
        "save_steps": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "train_sampling_strategy": "sequential",
    }
    return TrainingArguments(str(folder), **(common | settings))


def line_trainer(folder, rows, eval_rows=None, **settings) -> LaVITTrainer:
    torch.manual_seed(0)
    arguments = training_arguments(folder, **settings)
    return LaVITTrainer(Line(LineConfig()), arguments, train_dataset=rows, eval_dataset=eval_rows)


def line_rows(count: int) -> list[dict]:
    return [{"x": torch.tensor([1.0 + number % 2])} for number in range(count)]


class TestSettings:
    @pytest.fixture
    def run(self, tmp_path):
        def write(text: str) -> str:
            (tmp_path / "run.yaml").write_text(text)
            return str(tmp_path / "run.yaml")

        return write

    def test_file_defaults_and_overrides(self, run):
        path = run("model: here\nrate: 1e-3\noutput_dir: out\nmax_steps: 7\nuse_cpu: true\n")
        settings, training_args = load_settings(
            ToySettings, TrainingArguments, arguments=[path, "--max_steps", "9", "--split", "train"]
        )
        assert (settings.model, settings.rate, settings.split) == ("here", 1e-3, "train")
        assert (training_args.max_steps, training_args.output_dir) == (9, "out")

    def test_without_a_file(self):
        (settings,) = load_settings(ToySettings, arguments=["--model", "here"])
        assert settings.rate == 0.5

    def test_missing_file(self, tmp_path):
        with pytest.raises(TrainingError, match=r"there is no run file .*nowhere\.yaml"):
            load_settings(ToySettings, arguments=[str(tmp_path / "nowhere.yaml")])

    @pytest.mark.parametrize("text", ["", "- model\n", "model"])
    def test_no_mapping(self, run, text):
        with pytest.raises(TrainingError, match=r"run\.yaml must contain settings as `name: value`"):
            load_settings(ToySettings, arguments=[run(text)])

    def test_no_yaml(self, run):
        with pytest.raises(TrainingError, match=r"run\.yaml is not valid YAML: (?s:.*)line 1"):
            load_settings(ToySettings, arguments=[run("model: [here")])

    def test_unknown_setting(self, run):
        with pytest.raises(TrainingError, match=r"unknown settings: learnin_rate, modl\."):
            load_settings(ToySettings, arguments=[run("model: here\nmodl: 1\nlearnin_rate: 2\n")])

    def test_missing_setting(self, run, capsys):
        with pytest.raises(SystemExit):
            load_settings(ToySettings, arguments=[run("rate: 1\n")])
        assert "required: --model" in capsys.readouterr().err

    @pytest.mark.parametrize("slow", [False, True])
    @pytest.mark.parametrize("given", ["file", "command line"])
    def test_bf16_only_where_it_is_fast(self, run, monkeypatch, caplog, slow, given):
        monkeypatch.setattr("lavit_hf.training.settings.is_slow", lambda dtype, device: slow)
        text, arguments = "model: here\nuse_cpu: true\n", []
        if given == "file":
            text += "bf16: true\n"
        else:
            arguments = ["--bf16", "true"]
        _, training_args = load_settings(ToySettings, TrainingArguments, arguments=[run(text), *arguments])
        assert training_args.bf16 is not slow
        assert training_args.mixed_precision == ("no" if slow else "bf16")
        assert ("no instructions for bf16" in caplog.text) is slow


def write_checkpoint(folder, step: int, state: str | None = "{}") -> str:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    if state is not None:
        (checkpoint / "trainer_state.json").write_text(state)
    return str(checkpoint)


class TestFindCheckpoint:
    def start(self, folder, **settings):
        """A run as it stands after its first checkpoint."""
        assert find_checkpoint(training_arguments(folder, **settings), [ToySettings("here")]) is None
        return write_checkpoint(folder, 2)

    def test_a_new_run(self, tmp_path):
        assert find_checkpoint(training_arguments(tmp_path / "new"), [ToySettings("here")]) is None
        assert json.loads((tmp_path / "new" / "run.json").read_text())["model"] == "here"

    def test_the_last_by_number(self, tmp_path):
        checkpoints = [write_checkpoint(tmp_path, step) for step in (900, 1000, 90)]
        assert last_checkpoint(tmp_path) == checkpoints[1]
        assert last_checkpoint(tmp_path / "nowhere") is None

    @pytest.mark.parametrize("state", [None, "", '{"global_step": '])
    def test_unfinished_ones_are_passed_over(self, tmp_path, state):
        good = write_checkpoint(tmp_path, 2)
        write_checkpoint(tmp_path, 4, state)
        assert last_checkpoint(tmp_path) == good

    def test_the_same_settings_go_on(self, tmp_path):
        checkpoint = self.start(tmp_path)
        assert find_checkpoint(training_arguments(tmp_path), [ToySettings("here")]) == checkpoint

    @pytest.mark.parametrize(
        "change", [{"logging_steps": 7}, {"save_steps": 1}, {"save_total_limit": 3}, {"bf16": True}]
    )
    def test_what_may_change(self, tmp_path, change):
        checkpoint = self.start(tmp_path)
        assert find_checkpoint(training_arguments(tmp_path, **change), [ToySettings("here")]) == checkpoint

    def test_records_of_earlier_versions(self, tmp_path):
        """They also contain settings that may change by now."""
        checkpoint = self.start(tmp_path)
        record = json.loads((tmp_path / "run.json").read_text())
        (tmp_path / "run.json").write_text(json.dumps(record | {"bf16": True}))
        assert find_checkpoint(training_arguments(tmp_path), [ToySettings("here")]) == checkpoint

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"learning_rate": 0.2}, r"learning_rate \(0\.1 -> 0\.2\)"),
            ({"seed": 1}, r"seed \(42 -> 1\)"),
            ({"max_steps": 8}, r"max_steps \(6 -> 8\)"),
        ],
    )
    def test_changed_training_arguments(self, tmp_path, change, named):
        self.start(tmp_path)
        with pytest.raises(TrainingError, match=f"contains a run with other settings: {named}.*another output_dir"):
            find_checkpoint(training_arguments(tmp_path, **change), [ToySettings("here")])

    def test_a_checkpoint_of_choice_is_refused(self, tmp_path):
        arguments = training_arguments(tmp_path, resume_from_checkpoint="checkpoint-4")
        with pytest.raises(TrainingError, match="resumes from the last checkpoint in its output_dir"):
            find_checkpoint(arguments, [ToySettings("here")])

    def test_damaged_record(self, tmp_path):
        checkpoint = self.start(tmp_path)
        (tmp_path / "run.json").write_text("")
        with pytest.raises(TrainingError, match=r"run\.json is damaged"):
            find_checkpoint(training_arguments(tmp_path), [ToySettings("here")])
        assert last_checkpoint(tmp_path) == checkpoint

    def test_changed_own_settings(self, tmp_path):
        self.start(tmp_path)
        with pytest.raises(TrainingError, match=r"model \(here -> there\)"):
            find_checkpoint(training_arguments(tmp_path), [ToySettings("there")])

    def test_another_split_of_the_same_global_batch(self, tmp_path):
        checkpoint = self.start(tmp_path)
        args = training_arguments(tmp_path, per_device_train_batch_size=1, gradient_accumulation_steps=2)
        assert find_checkpoint(args, [ToySettings("here")]) == checkpoint

    @pytest.mark.parametrize(("per_device", "allowed"), [(1, True), (2, False)])
    def test_world_size(self, tmp_path, monkeypatch, per_device, allowed):
        checkpoint = self.start(tmp_path)
        monkeypatch.setattr(TrainingArguments, "world_size", 2)
        args = training_arguments(tmp_path, per_device_train_batch_size=per_device)
        if allowed:
            assert find_checkpoint(args, [ToySettings("here")]) == checkpoint
        else:
            with pytest.raises(TrainingError, match=r"global_batch_size \(2 -> 4\).*must keep the global batch"):
                find_checkpoint(args, [ToySettings("here")])


class TestTrainer:
    def test_learns_and_logs(self, tmp_path):
        trainer = line_trainer(tmp_path, line_rows(12))
        trainer.train()
        logs = [entry for entry in trainer.state.log_history if "loss" in entry]
        assert logs[-1]["loss"] < logs[0]["loss"]
        for entry in logs:
            assert entry["distance_loss"] == pytest.approx(entry["loss"], rel=1e-4)
            assert {"grad_norm", "learning_rate", "images_per_second"} <= entry.keys()

    def test_evaluation_has_figures_of_its_own(self, tmp_path):
        trainer = line_trainer(tmp_path, line_rows(12), line_rows(4))
        trainer.train()
        trainer.evaluate()
        figures = trainer.state.log_history[-1]
        assert figures["eval_distance_loss"] == pytest.approx(figures["eval_loss"], rel=1e-4)
        assert figures["eval_distance_loss"] < trainer.state.log_history[0]["distance_loss"]

    @pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
    def test_figures_do_not_depend_on_the_batches(self, tmp_path, batch_size):
        trainer = line_trainer(tmp_path, line_rows(12), per_device_eval_batch_size=batch_size)
        rows = [{"x": torch.tensor([float(number)])} for number in range(5)]
        trainer.evaluate(rows)
        figures = trainer.state.log_history[-1]
        expected = trainer.model(torch.stack([row["x"] for row in rows])).loss.item()
        assert figures["eval_distance_loss"] == pytest.approx(expected)

    def test_the_best_checkpoint_by_a_part_of_the_loss(self, tmp_path):
        best = {"load_best_model_at_end": True, "metric_for_best_model": "distance_loss", "greater_is_better": False}
        every_second = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps"}
        trainer = line_trainer(tmp_path, line_rows(12), line_rows(4), **best, **every_second)
        trainer.train()
        assert trainer.state.best_metric == pytest.approx(trainer.evaluate()["eval_distance_loss"])

    def test_figures_of_several_sets_and_of_a_prediction(self, tmp_path):
        trainer = line_trainer(tmp_path, line_rows(12))
        sets = {"near": line_rows(4), "far": [{"x": torch.tensor([9.0])}]}
        predicted = trainer.predict(sets["near"]).metrics
        assert predicted["test_distance_loss"] == pytest.approx(predicted["test_loss"])
        figures = trainer.evaluate(sets)
        for name in sets:
            assert figures[f"eval_{name}_distance_loss"] == pytest.approx(figures[f"eval_{name}_loss"])

    def test_smoothed_labels_are_refused(self, tmp_path):
        with pytest.raises(TrainingError, match=r"label_smoothing_factor must be 0, got 0\.1"):
            line_trainer(tmp_path, line_rows(4), label_smoothing_factor=0.1)

    def test_a_loss_that_is_no_number(self, tmp_path):
        rows = line_rows(12)
        rows[9] = {"x": torch.tensor([float("nan")])}  # of step 5
        with pytest.raises(TrainingError, match=r"the loss became nan at step 5.*checkpoint-4.*learning_rate"):
            line_trainer(tmp_path, rows).train()
        assert Line.from_pretrained(last_checkpoint(tmp_path)).layer.weight.isfinite()

    def test_before_the_first_checkpoint(self, tmp_path):
        rows = [{"x": torch.tensor([float("inf")])}] * 2
        with pytest.raises(TrainingError, match=r"at step 1\. There is no checkpoint yet"):
            line_trainer(tmp_path, rows).train()

    def test_weights_that_are_no_numbers_are_not_saved(self, tmp_path):
        """Step 4's loss is finite and its gradient is not, just before a checkpoint is due."""
        rows = [
            {**row, "bent": torch.tensor([float(number not in (6, 7))])} for number, row in enumerate(line_rows(12))
        ]
        with pytest.raises(TrainingError, match=r"weights of layer\.weight.* after step 4.*checkpoint-2"):
            line_trainer(tmp_path, rows).train()
        assert Line.from_pretrained(last_checkpoint(tmp_path)).layer.weight.isfinite()

    @pytest.mark.slow
    def test_a_full_disk_while_saving(self, tmp_path, monkeypatch):
        whole = line_trainer(tmp_path / "whole", line_rows(12))
        whole.train()
        save = torch.save

        def fill_up(state, path, *args, **kwargs):
            if "checkpoint-4" in str(path) and str(path).endswith("optimizer.pt"):
                with open(path, "wb") as file:
                    file.write(b"half of it")
                raise OSError(errno.ENOSPC, "No space left on device")
            save(state, path, *args, **kwargs)

        monkeypatch.setattr(torch, "save", fill_up)
        message = r"step 4 cannot be written: .*No space left.*good checkpoint is .*checkpoint-2.*Free some space"
        with pytest.raises(TrainingError, match=message):
            line_trainer(tmp_path / "cut", line_rows(12)).train()
        assert (tmp_path / "cut" / "checkpoint-4" / "model.safetensors").exists()
        monkeypatch.undo()

        resumed = line_trainer(tmp_path / "cut", line_rows(12))
        checkpoint = last_checkpoint(tmp_path / "cut")
        assert checkpoint.endswith("checkpoint-2")
        resumed.train(resume_from_checkpoint=checkpoint)
        assert torch.equal(resumed.model.layer.weight, whole.model.layer.weight)
        assert last_checkpoint(tmp_path / "cut").endswith("checkpoint-6")

    def test_fewer_rows_than_a_batch(self, tmp_path):
        trainer = line_trainer(tmp_path, line_rows(3), per_device_train_batch_size=4, dataloader_drop_last=True)
        with pytest.raises(
            TrainingError, match=r"has 3 rows, fewer than one batch of 4 .*per_device_train_batch_size"
        ):
            trainer.train()

    def test_a_smaller_batch_where_none_is_dropped(self, tmp_path):
        trainer = line_trainer(tmp_path, line_rows(3), per_device_train_batch_size=4)
        trainer.train()
        assert trainer.state.global_step == 6

    def test_a_stream_of_nothing(self, tmp_path):
        rows = datasets.Dataset.from_dict({"x": [1.0]}).to_iterable_dataset().filter(lambda row: False)
        with pytest.raises(TrainingError, match="a stream without any rows"):
            line_trainer(tmp_path, rows).train()


class TestMeters:
    def test_averages_since_the_last_time(self):
        meter, accelerator = LossMeter("tokens"), Accelerator(cpu=True)
        for loss in (1.0, 3.0):
            meter.update({"x": torch.zeros(2)}, {"part_loss": torch.tensor(loss), "other": torch.tensor(9.0)})
        figures = meter.compute(accelerator)
        assert figures.keys() == {"part_loss", "tokens_per_second"}
        assert figures["part_loss"] == 2
        assert meter.compute(accelerator) == {}
        meter.update({"x": torch.zeros(2)}, {"part_loss": torch.tensor(5.0)})
        assert meter.compute(accelerator)["part_loss"] == 5

    def test_the_rate_leaves_out_what_came_before_the_first_step(self, monkeypatch):
        times = iter([0.0, 100.0, 104.0, 104.0])  # made, first step, computed, made anew
        monkeypatch.setattr("time.perf_counter", lambda: next(times))
        meter = LossMeter()
        for _ in range(3):
            meter.update({"x": torch.zeros(8)}, {})
        assert meter.compute(Accelerator(cpu=True))["images_per_second"] == 16 / 4

    def test_kept_patches_and_codes(self):
        meter = TokenizerMeter(codebook_size=8)
        masks = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]]).bool()
        outputs = SimpleNamespace(
            keep_mask=masks, codes=torch.tensor([0, 0, 0, 5, 5, 5]), place_accuracy=None, items={}.items
        )
        meter.update({"x": torch.zeros(3)}, outputs)
        figures = meter.compute(Accelerator(cpu=True))
        assert (figures["kept_mean"], figures["kept_min"], figures["kept_max"]) == (2, 1, 3)
        assert figures["codebook_usage"] == 2 / 8
        assert figures["codebook_perplexity"] == pytest.approx(2)


class TestData:
    """Six images, two of which are broken, in every form."""

    @pytest.fixture(scope="class")
    def sources(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("data")
        paths = write_pictures(folder / "pictures", 6)
        paths[2].write_bytes(b"no picture")
        paths[4].write_bytes(paths[4].read_bytes()[:60])
        for number in range(2):
            with tarfile.open(folder / f"{number:04d}.tar", "w") as tar:
                for path in paths[3 * number : 3 * number + 3]:
                    tar.add(path, path.name)
        pictures = datasets.load_dataset("imagefolder", data_dir=str(folder / "pictures"), split="train")
        encoded = pictures.cast_column("image", datasets.Image(decode=False))
        datasets.DatasetDict(train=encoded).save_to_disk(folder / "disk")
        return {
            "imagefolder": (str(folder / "pictures"), "image"),
            "webdataset": (str(folder / "*.tar"), "png"),
            "save_to_disk": (str(folder / "disk"), "image"),
        }

    @pytest.mark.parametrize("streaming", [False, True])
    @pytest.mark.parametrize("form", ["imagefolder", "webdataset", "save_to_disk"])
    def test_broken_pictures(self, sources, form, streaming, caplog):
        source, column = sources[form]
        with caplog.at_level(logging.WARNING):
            kept = list(skip_broken_images(load_split(source, streaming=streaming), column))
        assert [row[column].size for row in kept] == [(32, 32)] * 4
        for name in ("picture_02.png", "picture_04.png"):
            assert f"{name} (" in caplog.text
        if not streaming:
            assert "skipped 2 of 6 images" in caplog.text

    @pytest.mark.parametrize("streaming", [False, True])
    def test_what_no_image_processor_reads_is_skipped(self, tmp_path, monkeypatch, streaming):
        """Images above the limit of pixels, where Pillow warns and where it refuses, and one that raises any error."""
        for side in (20, 30, 40):
            Image.new("RGB", (side, side)).save(tmp_path / f"{side}.png")
        damaged = io.BytesIO()
        Image.new("RGBA", (8, 8)).save(damaged, "DDS", pixel_format="DXT5")
        (tmp_path / "damaged.dds").write_bytes(damaged.getvalue().replace(b"DXT5", b"NONE"))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
        kept = skip_broken_images(load_split(str(tmp_path), streaming=streaming))
        assert [row["image"].size for row in kept] == [(20, 20)]

    def test_streamed_archives(self, tmp_path):
        paths = write_pictures(tmp_path / "pictures", 3)
        paths[1].write_bytes(b"no picture")
        (tmp_path / "data").mkdir()
        with zipfile.ZipFile(tmp_path / "data" / "pictures.zip", "w") as archive:
            for path in paths:
                archive.write(path, path.name)
        kept = skip_broken_images(load_split(str(tmp_path / "data"), streaming=True))
        assert [row["image"].size for row in kept] == [(32, 32)] * 2

    @pytest.mark.parametrize("streaming", [False, True])
    def test_damaged_metadata_stops_nothing(self, tmp_path, streaming):
        """`datasets` itself would stop at such an image in the middle of a run."""
        Image.new("RGB", (8, 8), "red").save(tmp_path / "junk.png", exif=b"Exif\0\0junkjunk")
        kept = skip_broken_images(load_split(str(tmp_path), streaming=streaming))
        assert [row["image"].getpixel((0, 0)) for row in kept] == [(255, 0, 0)]

    @pytest.mark.parametrize("address", ["hf://datasets/user/cats/{}", "zip://{}::hf://datasets/user/cats/all.zip"])
    def test_streams_of_the_hub(self, tmp_path, monkeypatch, address):
        """The images of a folder on the Hub are addresses, each of which is read once."""
        opened = []

        class Hub(MemoryFileSystem):
            protocol = "hf"
            store, pseudo_dirs = {}, [""]

            def _open(self, path, *args, **kwargs):
                opened.append(path)
                return super()._open(path, *args, **kwargs)

        monkeypatch.setitem(REGISTRY, "hf", Hub)
        paths = write_pictures(tmp_path, 2)
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for path in paths:
                archive.write(path, path.name)
        for path in (*paths, tmp_path / "all.zip"):
            Hub().pipe(f"hf://datasets/user/cats/{path.name}", path.read_bytes())
        opened.clear()
        names = [*(path.name for path in paths), "gone.png"]
        images = datasets.Dataset.from_dict({"image": [address.format(name) for name in names]})
        stream = images.cast_column("image", datasets.Image()).to_iterable_dataset()
        assert [row["image"].size for row in skip_broken_images(stream)] == [(32, 32)] * 2
        downloaded = [path for path in opened if path.endswith("png")]
        assert len(downloaded) == len(set(downloaded))

    def test_no_connection(self, monkeypatch):
        """Skipping all images that follow would be another training."""

        def fail(*args):
            raise ConnectionError("server disconnected")

        monkeypatch.setattr("lavit_hf.training.encoded_images.xopen", fail)
        with pytest.raises(TrainingError, match=r"hf://datasets/a/b/c\.png cannot be downloaded: server disconnected"):
            read_image({"bytes": None, "path": "hf://datasets/a/b/c.png"})

    @pytest.mark.parametrize(
        "path",
        ["http://127.0.0.1:9/a.png", "zip://a.png::http://127.0.0.1:9/a.zip", "zip://a.png::gone.zip", "", None],
    )
    def test_addresses_in_data_are_not_followed(self, path, monkeypatch, caplog):
        monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it was followed"))
        assert read_image({"bytes": None, "path": path}) is None
        assert "skipped an image that cannot be read" in caplog.text

    def test_none_is_left(self, tmp_path):
        for path in write_pictures(tmp_path, 2):
            path.write_bytes(b"no picture")
        with pytest.raises(TrainingError, match="none of the 2 images can be read"):
            skip_broken_images(load_split(str(tmp_path)))

    def test_missing_column(self, sources):
        with pytest.raises(TrainingError, match="no column 'photo', only image"):
            skip_broken_images(load_split(sources["imagefolder"][0]), "photo")

    @pytest.mark.parametrize("streaming", [False, True])
    def test_missing_data(self, tmp_path, streaming):
        with pytest.raises(TrainingError, match=r"split 'train' of .*nowhere cannot be loaded"):
            load_split(str(tmp_path / "nowhere"), streaming=streaming)
        with pytest.raises(TrainingError, match=r"split 'train' of .* cannot be loaded"):
            load_split(str(tmp_path), streaming=streaming)

    def test_dataset_without_splits(self, tmp_path):
        datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "one")
        with pytest.raises(TrainingError, match=r"one is a single dataset without splits.*DatasetDict\(\{'train'"):
            load_split(str(tmp_path / "one"))

    @pytest.mark.parametrize("form", ["imagefolder", "save_to_disk"])
    def test_missing_split(self, sources, form):
        with pytest.raises(TrainingError, match=r"split '?.*validation.*train"):
            load_split(sources[form][0], "validation")

    def test_empty_split(self, tmp_path):
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "train.parquet")
        with pytest.raises(TrainingError, match=r"the split 'train' of .*"):
            load_split(str(tmp_path))


class TestShards:
    schema = pa.schema({"row": pa.int32(), "features": pa.large_binary()})

    def encode(self, rows: range):
        return ({"row": row, "features": to_bytes(torch.full((3, 2), float(row)))} for row in rows)

    def write(self, folder, num_rows=10, encode=None, **settings):
        write_shards(num_rows, encode or self.encode, folder / "train", self.schema, settings, rows_per_shard=4)

    @pytest.mark.parametrize("streaming", [False, True])
    def test_read_as_a_split(self, tmp_path, streaming):
        self.write(tmp_path)
        rows = list(load_split(str(tmp_path), "train", streaming))
        assert [row["row"] for row in rows] == list(range(10))
        assert torch.equal(from_bytes(rows[7]["features"], width=2), torch.full((3, 2), 7, dtype=torch.float16))

    def test_goes_on_where_it_was_cut_short(self, tmp_path):
        encoded = []

        def encode(rows: range):
            encoded.append(rows.start)
            if rows.start == 4 and len(encoded) == 2:
                raise KeyboardInterrupt
            return self.encode(rows)

        with pytest.raises(KeyboardInterrupt):
            self.write(tmp_path, encode=encode)
        with pytest.raises(TrainingError, match=r"has 1 of 3 shards.*resumes"):
            read_shards(tmp_path / "train")
        self.write(tmp_path, encode=encode)
        assert encoded == [0, 4, 4, 8]
        assert [row["row"] for row in read_shards(tmp_path / "train")] == list(range(10))
        assert not list(tmp_path.rglob("*.unfinished"))

    def test_no_folder_mixes_settings(self, tmp_path):
        self.write(tmp_path, views=1)
        with pytest.raises(TrainingError, match=r"shards made with other settings \(views changed\)"):
            self.write(tmp_path, views=2)

    @pytest.mark.parametrize("content", ["", "[1, 2]", '{"views": 1'])
    def test_damaged_record(self, tmp_path, content):
        self.write(tmp_path)
        (tmp_path / "train" / "shards.json").write_text(content)
        with pytest.raises(TrainingError, match=r"shards\.json is damaged.*Remove the folder, or restore the file"):
            self.write(tmp_path)
        assert len(list((tmp_path / "train").glob("*.parquet"))) == 3

    def test_nothing_to_encode(self, tmp_path):
        with pytest.raises(TrainingError, match="the dataset is empty"):
            self.write(tmp_path, num_rows=0)
