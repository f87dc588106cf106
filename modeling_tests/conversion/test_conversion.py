# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The converter: complete, careful with what it reads, and never half done."""

import json
import os
import shutil
from functools import partial
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaConfig
from typer.testing import CliRunner

from lavit_hf import LaVITConfig, LaVITForCausalLM
from lavit_hf.cli.app import app
from lavit_hf.conversion import ConversionError, convert_checkpoint
from lavit_hf.conversion.inference import infer_config
from lavit_hf.conversion.layout import ENCODER, LANGUAGE_MODEL, TOKENIZER, UNDERSTANDING
from lavit_hf.conversion.plan import check_complete, plan_file, saved_state_dict
from lavit_hf.conversion.reading import read_tensors
from lavit_hf.conversion.writing import write_shards


HEADS = 4


@pytest.fixture
def original(golden, tmp_path):
    """A copy of the original checkpoint to spoil."""
    return shutil.copytree(golden.original, tmp_path / "original", ignore=shutil.ignore_patterns("*pixel_decoding"))


def edit(path, change):
    tensors = torch.load(path, weights_only=True)
    change(tensors)
    torch.save(tensors, path)


def assert_refused(original, message, error=ConversionError, heads=HEADS):
    destination = original.parent / "destination"
    with pytest.raises(error, match=message):
        convert_checkpoint(original, destination, heads)
    assert sorted(path.name for path in original.parent.iterdir()) == ["original"], "something half-written stays"


class TestComplete:
    def test_full_size_layout_maps_completely(self, golden):
        """Every tensor of a 7B release has its place in the model, by name and by shape."""
        layout = json.loads((golden.root / "layout_7b.json").read_text())
        files = {
            path: {name: torch.empty(shape, device="meta") for name, shape in tensors.items()}
            for path, tensors in layout.items()
        }
        plan = {
            **plan_file(ENCODER, files[ENCODER.path]),
            **plan_file(TOKENIZER, files[TOKENIZER.path]),
            **plan_file(UNDERSTANDING, files[UNDERSTANDING.path]),
            **plan_file(LANGUAGE_MODEL, files["language_model/pytorch_model.bin"]),
        }
        specs = {name: make() for name, make in plan.items()}
        text_config = LlamaConfig(vocab_size=48386)
        config = infer_config(specs, text_config, 16)
        with torch.device("meta"):
            check_complete(specs, saved_state_dict(LaVITForCausalLM(config)))
        visual_config = config.visual_tokenizer_config
        assert visual_config.encoder_config.num_hidden_layers == 40
        assert (visual_config.image_size, visual_config.num_patches) == (224, 256)
        assert (visual_config.num_hidden_layers, visual_config.intermediate_size) == (12, 6144)
        assert (visual_config.codebook_size, visual_config.codebook_dim) == (16384, 32)
        assert (config.image_start_token_id, config.first_code_token_id) == (32000, 32002)
        assert config.understanding_selector

    def test_is_set_to_the_releases_behavior(self, converted):
        config = LaVITForCausalLM.from_pretrained(converted).config
        assert config.visual_tokenizer_config.selection == "sample"
        assert config.visual_tokenizer_config.merger_softmax == "original"

    def test_keeps_the_dtype_and_casts_on_request(self, golden, converted, tmp_path):
        weights = load_file(converted / "model.safetensors")
        assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
        cast = convert_checkpoint(golden.original, tmp_path / "cast", HEADS, dtype=torch.bfloat16)
        assert {tensor.dtype for tensor in load_file(cast / "model.safetensors").values()} == {torch.bfloat16}

    def test_shards_stay_under_their_size_after_casting(self, golden, tmp_path):
        folder = convert_checkpoint(golden.original, tmp_path / "cast", HEADS, torch.float32, max_shard_size="9MB")
        assert max(path.stat().st_size for path in folder.glob("*.safetensors")) < 9.1e6
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == sum(
            tensor.nbytes for path in folder.glob("*.safetensors") for tensor in load_file(path).values()
        )

    def test_shards_hold_the_same_tensors(self, golden, converted, tmp_path):
        folder = convert_checkpoint(golden.original, tmp_path / "shards", HEADS, max_shard_size="1MB")
        shards = list(folder.glob("model-*.safetensors"))
        assert len(shards) > 3
        tensors = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
        expected = load_file(converted / "model.safetensors")
        assert tensors.keys() == expected.keys()
        assert all(torch.equal(tensors[name], expected[name]) for name in expected)

    def test_memory_that_tensors_share_or_pass_over(self, tmp_path):
        matrix = torch.arange(24.0).view(6, 4)
        tensors = {
            "alone": torch.arange(5.0),
            **dict(zip("qkv", matrix.chunk(3))),
            "all of it": matrix,
            "again": matrix,
            "transposed": torch.arange(6.0).view(2, 3).T,
            "expanded": torch.ones(1, 1).expand(2, 3),
            "every other": torch.arange(8)[::2],
            "a part of what is not saved": torch.arange(9.0)[3:6],
        }
        expected = {name: tensor.clone() for name, tensor in tensors.items()}
        plan = {name: partial(tensors.__getitem__, name) for name in tensors}
        for name, dtype in (("kept", None), ("cast", torch.bfloat16)):
            write_shards(
                plan, {key: value.to("meta") for key, value in tensors.items()}, tmp_path / name, "1GB", dtype
            )
            written = load_file(tmp_path / name / "model.safetensors")
            assert written.keys() == expected.keys()
            for key, tensor in written.items():
                wanted = expected[key].to(dtype) if dtype and tensor.is_floating_point() else expected[key]
                assert tensor.dtype == wanted.dtype and torch.equal(tensor, wanted), key
        assert all(torch.equal(tensors[name], expected[name]) for name in tensors)

    def test_safetensors_and_single_files_are_read_too(self, original, converted):
        folder = original / "language_model"
        index = folder / "pytorch_model.bin.index.json"
        shards = sorted(folder.glob("pytorch_model-*.bin"))
        tensors = {name: tensor for shard in shards for name, tensor in torch.load(shard, weights_only=True).items()}
        save_file(tensors, folder / "model.safetensors")
        for path in (index, *shards):
            path.unlink()
        again = convert_checkpoint(original, original.parent / "again", HEADS)
        assert (again / "model.safetensors").read_bytes() == (converted / "model.safetensors").read_bytes()

    def test_safetensors_that_begin_like_an_old_pickle(self, tmp_path):
        save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors", metadata={"p": "x" * 555})
        assert (tmp_path / "x.safetensors").read_bytes()[:2] == b"\x80\x02"
        assert read_tensors(tmp_path / "x.safetensors").keys() == {"a"}

    def test_the_dtype_of_most_bytes_is_recorded(self, original):
        edit(original / ENCODER.path, lambda tensors: tensors.update({k: v.float() for k, v in tensors.items()}))
        again = convert_checkpoint(original, original.parent / "again", HEADS)
        assert LaVITConfig.from_pretrained(again).dtype == torch.float16

    def test_release_with_more_copies_and_without_a_selector_for_understanding(self, original, converted):
        encoder = torch.load(original / ENCODER.path, weights_only=True)
        edit(
            original / TOKENIZER.path,
            lambda tensors: tensors.update({f"encoder.{name}": tensor for name, tensor in encoder.items()}),
        )
        drop = [name for name in torch.load(original / UNDERSTANDING.path) if name.startswith("token_predictor")]
        edit(original / UNDERSTANDING.path, lambda tensors: [tensors.pop(name) for name in drop])
        again = convert_checkpoint(original, original.parent / "again", HEADS)
        expected = load_file(converted / "model.safetensors")
        tensors = load_file(again / "model.safetensors")
        assert {name for name in expected if not name.startswith("understanding.selector")} == tensors.keys()
        assert LaVITForCausalLM.from_pretrained(again).understanding.selector is None

    def test_repo_is_whole(self, converted):
        assert {"README.md", "config.json", "generation_config.json", "tokenizer.json"} <= set(os.listdir(converted))
        assert len(AutoTokenizer.from_pretrained(converted)) == 32514
        assert "| 512 of width 16 |" in (converted / "README.md").read_text()


class TestBadInput:
    def test_destination_exists(self, golden, tmp_path):
        (tmp_path / "there").mkdir()
        (tmp_path / "there" / "mine.txt").write_text("mine")
        with pytest.raises(FileExistsError, match="already exists"):
            convert_checkpoint(golden.original, tmp_path / "there", HEADS)
        assert [path.name for path in tmp_path.rglob("*")] == ["there", "mine.txt"]

    def test_destination_exists_by_a_detour(self, golden, tmp_path):
        (tmp_path / "there").mkdir()
        with pytest.raises(FileExistsError, match="already exists"):
            convert_checkpoint(golden.original, tmp_path / "new" / "sub" / ".." / ".." / "there", HEADS)
        assert os.listdir(tmp_path) == ["there"]

    def test_destination_is_a_link_to_nowhere(self, golden, tmp_path):
        (tmp_path / "link").symlink_to("nowhere")
        with pytest.raises(FileExistsError, match="already exists"):
            convert_checkpoint(golden.original, tmp_path / "link", HEADS)

    @pytest.mark.parametrize("heads", [0, 5, 1000])
    def test_wrong_heads(self, original, heads):
        assert_refused(original, "--num-attention-heads", heads=heads)

    @pytest.mark.parametrize("path", [ENCODER.path, TOKENIZER.path, UNDERSTANDING.path])
    def test_missing_file(self, original, path):
        (original / path).unlink()
        assert_refused(original, f"{path.split('/')[-1]} is missing")

    def test_no_language_model(self, original):
        for path in (original / "language_model").glob("pytorch_model*"):
            path.unlink()
        assert_refused(original, "has no weights")

    def test_missing_shard(self, original):
        (original / "language_model" / "pytorch_model-00002-of-00003.bin").unlink()
        assert_refused(original, "pytorch_model-00002-of-00003.bin is missing")

    def test_no_folder(self, tmp_path):
        with pytest.raises(ConversionError, match="hf download"):
            convert_checkpoint("rain1011/LaVIT-7B-v2", tmp_path / "destination")

    def test_converted_already(self, converted, tmp_path):
        with pytest.raises(ConversionError, match="already been converted"):
            convert_checkpoint(converted, tmp_path / "destination", HEADS)

    def test_not_a_checkpoint(self, tmp_path):
        (tmp_path / "original").mkdir()
        assert_refused(tmp_path / "original", "is missing")

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
    def test_truncated_file(self, original, share):
        path = original / TOKENIZER.path
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        assert_refused(original, "tokenizer_encoder.bin cannot be read and is probably truncated")

    def test_truncated_safetensors(self, original):
        folder = original / "language_model"
        save_file({"model.norm.weight": torch.zeros(64)}, folder / "model.safetensors")
        content = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(content[:-8])
        assert_refused(original, "probably truncated")

    def test_pickle_that_runs_code(self, original):
        class Evil:
            def __reduce__(self):
                return os.system, (f"touch {original.parent / 'ran'}",)

        torch.save({"cls_token": Evil()}, original / ENCODER.path)
        assert_refused(original, "a pickle can run code")

    def test_file_of_something_else(self, original):
        torch.save(torch.zeros(3), original / ENCODER.path)
        assert_refused(original, "does not hold a dictionary of tensors")

    def test_unknown_tensors_are_listed(self, original):
        edit(original / TOKENIZER.path, lambda tensors: tensors.update(mystery=torch.zeros(1)))
        assert_refused(original, "belong to no known LaVIT release: mystery")

    def test_missing_tensors_are_listed(self, original):
        edit(original / TOKENIZER.path, lambda tensors: tensors.pop("causal_encoder.norm.bias"))
        assert_refused(original, r"Missing: visual_tokenizer\.merger\.norm\.bias")

    def test_missing_half_of_a_pair(self, original):
        edit(original / ENCODER.path, lambda tensors: tensors.pop("blocks.1.attn.v_bias"))
        assert_refused(original, r"blocks\.1\.attn\.v_bias")

    def test_wrong_shape(self, original):
        edit(
            original / TOKENIZER.path,
            lambda tensors: tensors.update({"encode_task_layer.0.weight": torch.zeros(96, 95)}),
        )
        assert_refused(original, r"shapes of these tensors do not fit.*quantizer\.in_proj\.weight")

    def test_vocabulary_of_another_release(self, original):
        edit(
            original / TOKENIZER.path,
            lambda tensors: tensors.update({"quantize.embedding.weight": torch.zeros(40000, 16)}),
        )
        assert_refused(original, "do not belong together")

    @pytest.mark.parametrize("name", ["AutoencoderKL", "NoScheduler", 3, None])
    def test_scheduler_of_nothing(self, golden, tmp_path, name):
        original = shutil.copytree(golden.original, tmp_path / "original")
        path = original / "highres_pixel_decoding" / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": name}))
        with pytest.raises(ConversionError, match="not a scheduler of diffusers"):
            convert_checkpoint(original, tmp_path / "destination", HEADS, pixel_decoder="highres")
        assert not (tmp_path / "destination").exists()

    def test_pixel_decoder_of_another_release(self, golden, tmp_path):
        original = shutil.copytree(golden.original, tmp_path / "original")
        path = original / "highres_pixel_decoding" / "unet" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "cross_attention_dim": 72}))
        with pytest.raises(ConversionError):
            convert_checkpoint(original, tmp_path / "destination", HEADS, pixel_decoder="highres")
        assert [path.name for path in tmp_path.iterdir()] == ["original"]

    def test_truncated_index(self, original):
        index = original / "language_model" / "pytorch_model.bin.index.json"
        index.write_text(index.read_text()[:100])
        assert_refused(original, r"index\.json is not a usable JSON object.*truncated")

    def test_damaged_config(self, original):
        (original / "language_model" / "config.json").write_text("{}")
        assert_refused(original, "not a readable config.json")

    def test_damaged_tokenizer(self, original):
        path = original / "language_model" / "tokenizer.model"
        path.write_bytes(path.read_bytes()[:1000])
        assert_refused(original, "tokenizer.model is damaged")

    @pytest.mark.parametrize("path", [TOKENIZER.path, "language_model/config.json", "language_model/tokenizer.model"])
    def test_pointers_of_git_lfs(self, original, path):
        (original / path).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
        assert_refused(original, f"{path} is a pointer of Git LFS")

    def test_tensor_in_two_shards(self, original):
        tensors = torch.load(original / "language_model" / "pytorch_model-00001-of-00003.bin", weights_only=True)
        name = next(iter(tensors))
        stale = {name: torch.zeros_like(tensors[name])}
        edit(original / "language_model" / "pytorch_model-00003-of-00003.bin", lambda shard: shard.update(stale))
        assert_refused(original, f"{name} twice, in pytorch_model-00001-of-00003.bin and pytorch_model-00003")

    def test_pickle_of_the_old_form(self, original):
        tensors = torch.load(original / ENCODER.path, weights_only=True)
        torch.save(tensors, original / ENCODER.path, _use_new_zipfile_serialization=False)
        assert_refused(original, "before PyTorch 1.6")

    def test_interruption_leaves_nothing(self, original, monkeypatch):
        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr("lavit_hf.conversion.writing.save_file", interrupt)
        assert_refused(original, "", error=KeyboardInterrupt)


class TestHostile:
    """Whatever is read from a checkpoint may be written by anyone."""

    INDEX = "language_model/pytorch_model.bin.index.json"
    SHARD = "pytorch_model-00002-of-00003.bin"

    def move_shard_out(self, original):
        (original.parent / "elsewhere").mkdir()
        return shutil.move(original / "language_model" / self.SHARD, original.parent / "elsewhere" / self.SHARD)

    @staticmethod
    def refuse(original, message):
        before = sorted(original.parent.rglob("*"))
        with pytest.raises(ConversionError, match=message) as refusal:
            convert_checkpoint(original, original.parent / "destination", HEADS)
        assert sorted(original.parent.rglob("*")) == before
        assert len(str(refusal.value)) <= 2000

    @pytest.mark.parametrize("absolute", [True, False])
    def test_index_that_leaves_the_folder(self, original, absolute):
        shard = self.move_shard_out(original)
        name = str(shard) if absolute else f"../../elsewhere/{self.SHARD}"
        index = original / self.INDEX
        index.write_text(index.read_text().replace(self.SHARD, name))
        self.refuse(original, "which is not inside")

    def test_link_that_leaves_the_folder(self, original):
        (original / "language_model" / self.SHARD).symlink_to(self.move_shard_out(original))
        self.refuse(original, "symbolic link out of")

    def test_compressed_records(self, original):
        """Which would pass for weights, or be a bomb."""
        with ZipFile(original / TOKENIZER.path) as archive:
            records = {name: archive.read(name) for name in archive.namelist()}
        with ZipFile(original / TOKENIZER.path, "w", ZIP_DEFLATED) as archive:
            for name, content in records.items():
                archive.writestr(name, content)
        self.refuse(original, "tokenizer_encoder.bin is compressed")

    def test_link_to_itself(self, original):
        (original / "language_model" / "loop").symlink_to("loop")
        assert convert_checkpoint(original, original.parent / "destination", HEADS).is_dir()

    def test_snapshot_of_the_cache(self, original, tmp_path):
        blobs = shutil.move(original, tmp_path / "cache" / "models--org--lavit" / "blobs")
        snapshot = tmp_path / "cache" / "models--org--lavit" / "snapshots" / "1234"
        for path in [path for path in blobs.rglob("*") if path.is_file()]:
            link = snapshot / path.relative_to(blobs)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(path, link.parent))
        assert convert_checkpoint(snapshot, tmp_path / "destination", HEADS).is_dir()

    @pytest.mark.parametrize("value", [5, "pytorch_model.bin.index.json", "x" * 5000])
    def test_name_of_nothing(self, original, value):
        index = json.loads((original / self.INDEX).read_text())
        index["weight_map"]["model.norm.weight"] = value
        (original / self.INDEX).write_text(json.dumps(index))
        self.refuse(original, "language_model")

    @pytest.mark.parametrize(("file", "content"), [(INDEX, "[" * 100_000), ("language_model/config.json", "null")])
    def test_json_of_any_form(self, original, file, content):
        (original / file).write_text(content)
        self.refuse(original, f"{file} is not a usable JSON object")

    def test_small_config_of_a_large_model(self, original):
        path = original / "language_model" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "num_labels": 10**9}))
        self.refuse(original, "config.json has a number above")

    def test_layers_that_nothing_fills(self, golden, original):
        decoder = shutil.copytree(golden.original / "highres_pixel_decoding", original / "highres_pixel_decoding")
        config = decoder / "unet" / "config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "layers_per_block": 10**6}))
        with pytest.raises(ConversionError, match="much larger model"):
            convert_checkpoint(original, original.parent / "destination", HEADS, pixel_decoder="highres")

    def test_layer_far_behind_the_others(self, original):
        edit(
            original / ENCODER.path,
            lambda tensors: tensors.update({"blocks.999999999.norm1.weight": torch.zeros(64)}),
        )
        self.refuse(original, "layers, but not")

    @pytest.mark.parametrize(
        ("message", "change"),
        [
            ("special format", lambda tensor: tensor.to_sparse()),
            ("special format", lambda tensor: tensor.to_sparse_csr()),
            ("special format", lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)),
            ("special format", lambda tensor: tensor.to("meta")),
            ("complex64", lambda tensor: tensor.to(torch.complex64)),
            ("float8", lambda tensor: tensor.to(torch.float8_e4m3fn)),
            ("not that many values", lambda tensor: tensor[:1, :1].expand(10**6, 10**6)),
            ("dictionary of tensors", lambda tensor: [tensor]),
        ],
    )
    @pytest.mark.filterwarnings("ignore")
    def test_tensors_of_special_forms(self, tmp_path, message, change):
        torch.save({"weight": change(torch.rand(4, 4))}, tmp_path / "x.bin")
        with pytest.raises(ConversionError, match=rf"x\.bin .*{message}"):
            read_tensors(tmp_path / "x.bin")

    @pytest.mark.parametrize(
        ("message", "change"),
        [
            ("must hold floating-point", lambda tensor: tensor.to(torch.int8)),
            ("shape", lambda tensor: tensor.sum()),
            ("NaN or infinite", lambda tensor: tensor + float("inf")),
        ],
    )
    def test_tensors_that_are_no_weights(self, original, message, change):
        name = "causal_encoder.blocks.0.mlp.fc1.weight"
        edit(original / TOKENIZER.path, lambda tensors: tensors.update({name: change(tensors[name])}))
        self.refuse(original, message)

    def test_nan_on_request(self, original, tmp_path):
        name = "causal_encoder.norm.bias"
        edit(original / TOKENIZER.path, lambda tensors: tensors[name].fill_(float("nan")))
        arguments = ["convert", str(original), str(tmp_path / "lavit"), "--num-attention-heads", str(HEADS)]
        refused = CliRunner().invoke(app, arguments)
        assert refused.exit_code == 1 and "--allow-nan" in refused.stderr and not (tmp_path / "lavit").exists()
        assert CliRunner().invoke(app, [*arguments, "--allow-nan"]).exit_code == 0
        weights = load_file(tmp_path / "lavit" / "model.safetensors")
        nan = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
        assert nan == ["visual_tokenizer.merger.norm.bias"]

    def test_weights_that_a_cast_makes_infinite(self, original):
        name = "causal_encoder.norm.bias"
        edit(original / TOKENIZER.path, lambda tensors: tensors.update({name: tensors[name].float().fill_(1e9)}))
        with pytest.raises(ConversionError, match=r"merger\.norm\.bias.*in torch\.float16"):
            convert_checkpoint(original, original.parent / "destination", HEADS, dtype=torch.float16)

    def test_nothing_of_the_config_runs_or_reads_elsewhere(self, original):
        path = original / "language_model" / "config.json"
        strange = {"auto_map": {"AutoConfig": "evil.Config"}, "transformers_weights": "../x.safetensors"}
        path.write_text(json.dumps({**json.loads(path.read_text()), **strange}))
        folder = convert_checkpoint(original, original.parent / "destination", HEADS)
        text_config = json.loads((folder / "config.json").read_text())["text_config"]
        assert not strange.keys() & text_config.keys()


class TestCommandLine:
    def test_converts(self, golden, tmp_path):
        arguments = ["convert", str(golden.original), str(tmp_path / "lavit"), "--num-attention-heads", "4"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        assert LaVITForCausalLM.from_pretrained(tmp_path / "lavit").config.text_vocab_size == 32000

    def test_error_is_one_line(self, golden, tmp_path):
        arguments = ["convert", str(golden.original), str(tmp_path / "lavit"), "--num-attention-heads", "5"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 1
        assert "--num-attention-heads" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
