# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Loading from the Hub through its real client, over HTTP: revisions, private repos, cut lines and no line at all."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)
from typer.testing import CliRunner

from hub_client import OWNER, STRANGER, assert_same_weights, publish
from lavit_hf import (
    LaVITConfig,
    LaVITForCausalLM,
    LaVITPipeline,
    LaVITProcessor,
    LaVITVisualTokenizer,
    write_remote_code,
)
from lavit_hf.cli.app import app
from lavit_hf.conversion import convert_checkpoint
from lavit_hf.hub.pipeline_code import find_sources, flatten_imports
from lavit_hf.lavit import configuration_lavit
from lavit_hf.lavit.checkpoint_index import VISUAL_TOKENIZER_INDEX_NAME
from lavit_hf.tasks.loading import load_language_model, load_processor
from lavit_hf.tasks.options import ModelOptions
from lavit_hf.tasks.pixel_decoders import NOT_IN_THE_CACHE, describe_decoder
from lavit_hf.tasks.repo_files import open_repo
from lavit_hf.tasks.whole_model import UNKNOWN_PIXEL_DECODER, load_whole_model


CAT = str(Path(__file__).parents[2] / "examples" / "images" / "cat.jpg")
WEIGHTS = "language_model/model.safetensors"
LOADERS = [
    LaVITForCausalLM,
    LaVITVisualTokenizer,
    LaVITProcessor,
    LaVITPipeline,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
]


@pytest.fixture(scope="module")
def private(hub, repos):
    """The id of a repo that only its owner sees."""
    return publish(hub, "org/private", repos["lowres"], private=True)


@pytest.fixture(scope="module")
def sharded(golden, tmp_path_factory):
    """A whole LaVIT in small files, as a large one is."""
    folder = tmp_path_factory.mktemp("sharded") / "lavit"
    heads = golden.facts["dims"]["heads"]
    return convert_checkpoint(golden.original, folder, heads, max_shard_size="500KB", pixel_decoder="lowres")


@pytest.fixture(scope="module")
def published_shards(hub, sharded):
    return publish(hub, "org/sharded", sharded)


class TestLoading:
    @pytest.mark.parametrize("loader", [LaVITForCausalLM, AutoModel, AutoModelForImageTextToText])
    def test_model(self, reader, published, repos, loader):
        model = loader.from_pretrained(published)
        assert type(model) is LaVITForCausalLM
        local = LaVITForCausalLM.from_pretrained(repos["lowres"])
        assert_same_weights(model, local)
        assert model.generation_config.to_dict() == local.generation_config.to_dict()

    def test_processor_and_its_parts(self, reader, published, repos):
        local = LaVITProcessor.from_pretrained(repos["lowres"])
        expected = local(images=CAT, text="a cat", return_tensors="pt")
        for loader in (LaVITProcessor, AutoProcessor):
            inputs = loader.from_pretrained(published)(images=CAT, text="a cat", return_tensors="pt")
            assert all(torch.equal(inputs[name], expected[name]) for name in expected)
        assert AutoTokenizer.from_pretrained(published).get_vocab() == local.tokenizer.get_vocab()
        pixels = AutoImageProcessor.from_pretrained(published)(CAT, return_tensors="pt").pixel_values
        assert torch.equal(pixels, expected["pixel_values"])
        assert type(AutoConfig.from_pretrained(published)) is LaVITConfig

    def test_pipeline(self, reader, published, repos):
        pipeline, local = LaVITPipeline.from_pretrained(published), LaVITPipeline.from_pretrained(repos["lowres"])
        for name in ("language_model", "detokenizer", "unet", "vae", "safety_checker"):
            assert_same_weights(getattr(pipeline, name), getattr(local, name))

    @pytest.mark.slow
    def test_diffusers(self, reader, published, repos):
        """By the id and out of a folder; the package's class, as it is imported."""
        local = LaVITPipeline.from_pretrained(repos["lowres"])
        for repo in (published, snapshot_download(published)):
            loaded = DiffusionPipeline.from_pretrained(repo, custom_pipeline=repo, trust_remote_code=True)
            assert type(loaded) is LaVITPipeline
            assert_same_weights(loaded.language_model, local.language_model)
            kept, expected = (
                model.generation_config.to_dict() for model in (loaded.language_model, local.language_model)
            )
            assert kept == expected
        with pytest.raises(ValueError, match="trust_remote_code=True"):
            DiffusionPipeline.from_pretrained(published, custom_pipeline=published)


class TestOwnWeightsOnly:
    def test_visual_tokenizer(self, reader, published_shards, sharded):
        loaded = LaVITVisualTokenizer.from_pretrained(published_shards)
        assert_same_weights(loaded, LaVITVisualTokenizer.from_pretrained(sharded))
        index = json.loads((sharded / VISUAL_TOKENIZER_INDEX_NAME).read_text())["weight_map"]
        assert downloaded_weights(reader) == set(index.values())
        received = sum(request.num_bytes for request in reader.downloads())
        weights = sum(path.stat().st_size for path in (sharded / "language_model").glob("*.safetensors"))
        own = sum(weight.nbytes for weight in loaded.half().state_dict().values())
        assert own < received < own + 600_000 < weights  # at most one file is shared with the language model

    def test_pixel_decoder(self, reader, published_shards):
        """Of the language model only the file with the codebook."""
        pipeline = LaVITPipeline.from_pretrained(published_shards, language_model=None)
        assert pipeline.detokenizer.codebook is not None
        assert len({name for name in downloaded_weights(reader) if name.startswith("language_model/")}) == 1


def downloaded_weights(hub) -> set[str]:
    return {request.file for request in hub.downloads() if request.file.endswith(".safetensors")}


class TestRevisions:
    @pytest.fixture
    def revisions(self, owner, repos):
        """Selection rules by the names of revisions: a tag, a branch and a commit."""
        api, repo_id = HfApi(), "org/revisions"
        if repo_id not in owner.repos:
            publish(owner, repo_id, repos["lowres"])
            api.create_tag(repo_id, tag="v1.0")
            api.create_branch(repo_id, branch="experiment")
            config = LaVITConfig.from_pretrained(repos["lowres"])
            for branch, selection in (("experiment", "threshold"), ("main", "ratio")):
                config.visual_tokenizer_config.selection = selection
                config.push_to_hub(repo_id, revision=branch)
        commit = api.model_info(repo_id, revision="experiment").sha
        return repo_id, {"v1.0": "sample", "experiment": "threshold", commit: "threshold", "main": "ratio"}

    def test_each_has_its_own(self, revisions):
        repo_id, selections = revisions
        for revision, selection in selections.items():
            config = LaVITConfig.from_pretrained(repo_id, revision=revision)
            assert config.visual_tokenizer_config.selection == selection
            visual_tokenizer = LaVITVisualTokenizer.from_pretrained(repo_id, revision=revision)
            assert visual_tokenizer.config.selection == selection
        pipeline = LaVITPipeline.from_pretrained(repo_id, revision="v1.0")
        assert pipeline.language_model.visual_tokenizer.config.selection == "sample"

    @pytest.mark.parametrize("loader", [LaVITForCausalLM, LaVITVisualTokenizer, LaVITPipeline])
    def test_unknown(self, revisions, loader):
        with pytest.raises(OSError, match=r"not a valid git identifier|Revision Not Found"):
            loader.from_pretrained(revisions[0], revision="v2.0")


class TestPrivate:
    def test_with_its_token(self, reader, private, repos):
        model = LaVITForCausalLM.from_pretrained(private, token=OWNER)
        assert_same_weights(model, LaVITForCausalLM.from_pretrained(repos["lowres"]))
        assert LaVITProcessor.from_pretrained(private, token=OWNER).tokenizer.image_start_token == "[IMG]"
        storage = {request.token for request in reader.requests if request.path.startswith("/storage/")}
        assert storage == {None}, "the token was sent to another host"

    def test_with_the_token_of_the_environment(self, owner, private):
        assert LaVITVisualTokenizer.from_pretrained(private).config.codebook_size > 0

    @pytest.mark.parametrize("loader", LOADERS)
    @pytest.mark.parametrize(
        ("token", "message"), [(None, "token"), (STRANGER, "token"), ("hf_wrong", "Invalid credentials")]
    )
    def test_without_it(self, reader, private, loader, token, message):
        with pytest.raises(OSError, match=message) as error:
            loader.from_pretrained(private, token=token)
        assert private in str(error.value)
        assert reader.downloads() == []

    @pytest.mark.parametrize("loader", LOADERS)
    def test_what_does_not_exist(self, reader, loader):
        with pytest.raises(OSError, match="org/nothing"):
            loader.from_pretrained("org/nothing")


class TestCutLine:
    def test_goes_on_where_it_was_cut(self, reader, published, repos):
        size = (repos["lowres"] / WEIGHTS).stat().st_size
        kept = constants.DOWNLOAD_CHUNK_SIZE  # what the client has written when less than two of them came
        reader.cut_next_download(after=size - 1000)
        model = LaVITForCausalLM.from_pretrained(published)
        assert_same_weights(model, LaVITForCausalLM.from_pretrained(repos["lowres"]))
        parts = [request for request in reader.downloads() if request.file == WEIGHTS]
        assert [(part.status, part.first_byte, part.num_bytes) for part in parts] == [
            (200, 0, size - 1000),
            (206, kept, size - kept),
        ]

    def test_leaves_no_half_file(self, reader, published, repos):
        with reader.failing():
            reader.cut_next_download(after=1000, then_fail=True)
            with pytest.raises(OSError, match=WEIGHTS):
                LaVITForCausalLM.from_pretrained(published)
        model = LaVITForCausalLM.from_pretrained(published)
        assert_same_weights(model, LaVITForCausalLM.from_pretrained(repos["lowres"]))


class TestNoNetwork:
    @pytest.mark.parametrize("loader", [LaVITForCausalLM, LaVITVisualTokenizer, LaVITPipeline, AutoTokenizer])
    def test_nothing_in_the_cache(self, reader, published, loader):
        with reader.unplugged(), pytest.raises(OSError, match=r"couldn't connect|check your internet connection"):
            loader.from_pretrained(published)

    @pytest.mark.slow
    @pytest.mark.parametrize("offline", [False, True])
    def test_from_the_cache(self, reader, published, repos, monkeypatch, offline):
        """With HF_HUB_OFFLINE=1 and, after the client has tried in vain for a while, without."""
        LaVITPipeline.from_pretrained(published)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        with reader.unplugged():
            for loader in LOADERS if offline else [LaVITVisualTokenizer]:
                loader.from_pretrained(published)
            model = LaVITForCausalLM.from_pretrained(published)
        assert_same_weights(model, LaVITForCausalLM.from_pretrained(repos["lowres"]))

    def test_commands_from_the_cache(self, reader, published, monkeypatch):
        """Of files that were downloaded one by one, without the list of all."""
        options = ModelOptions(published, "cpu")
        monkeypatch.setattr("lavit_hf.tasks.dtypes.is_slow", lambda dtype, device: True)  # float32 must fit
        load_language_model(published, options)
        load_processor(published, options)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert load_language_model(published, options).dtype == torch.float32
        assert describe_decoder(open_repo(published))["pixel_decoder"]["kind"] == NOT_IN_THE_CACHE
        model = load_whole_model(options)
        assert model.pipeline is None
        assert model.why_no_pipeline == UNKNOWN_PIXEL_DECODER

    def test_list_of_files_from_the_cache(self, reader, published, monkeypatch):
        expected = open_repo(published).names
        with monkeypatch.context() as offline:
            offline.setattr(constants, "HF_HUB_OFFLINE", True)
            with pytest.raises(OfflineModeIsEnabled):
                open_repo(published)
        snapshot_download(published, allow_patterns=["*.json"])
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert sorted(open_repo(published).names) == sorted(expected)


WITHOUT_THE_PACKAGE = """
import sys
sys.modules["lavit_hf"] = None  # as if it were not installed
from transformers import AutoModelForImageTextToText, AutoProcessor

picture, *repos = sys.argv[1:]
for repo in repos:
    model = AutoModelForImageTextToText.from_pretrained(repo, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    model.visual_tokenizer.config.selection = "threshold"
    processor = AutoProcessor.from_pretrained(repo, trust_remote_code=True)
    ids = model.generate(**processor(images=picture, return_tensors="pt"), num_beams=1, max_new_tokens=8)
    print(f"{repo}: {ids.tolist()}")
"""


@pytest.mark.slow
def test_remote_code(reader, published, repos, tmp_path):
    """Out of a folder and from the Hub, in a process that has no lavit_hf."""
    model, processor = (cls.from_pretrained(repos["lowres"]) for cls in (LaVITForCausalLM, LaVITProcessor))
    model.save_pretrained(tmp_path / "folder")
    processor.save_pretrained(tmp_path / "folder")
    write_remote_code(tmp_path / "folder")
    environment = os.environ | {
        "HF_ENDPOINT": reader.url,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", WITHOUT_THE_PACKAGE, CAT, str(tmp_path / "folder"), published]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert any(request.file == "code/modeling_lavit.py" for request in reader.downloads())
    model.visual_tokenizer.config.selection = "threshold"
    ids = model.generate(**processor(images=CAT, return_tensors="pt"), num_beams=1, max_new_tokens=8)
    assert run.stdout.splitlines() == [f"{tmp_path / 'folder'}: {ids.tolist()}", f"{published}: {ids.tolist()}"]


PAINTED_WITHOUT_THE_PACKAGE = """
import sys
sys.modules["lavit_hf"] = None
import torch
from diffusers import DiffusionPipeline
from transformers import AutoModelForMultimodalLM

folder, source, *custom_pipelines = sys.argv[1:]

def paint(pipeline, name):
    assert type(pipeline).__module__.startswith("transformers_modules."), type(pipeline)
    options = {"num_inference_steps": 2, "generation_kwargs": {"max_new_tokens": 6, "min_new_tokens": 3}}
    generator = torch.Generator().manual_seed(0)
    output = pipeline("a red apple", generator=generator, output_type="pt", **options)
    torch.save([output.images, output.image_token_ids[0]], f"{folder}/{name}.pt")
    return output

for name in custom_pipelines:
    pipeline = DiffusionPipeline.from_pretrained(source, custom_pipeline=name, trust_remote_code=True)
    output = paint(pipeline, name.replace("/", "-"))
pipeline.save_pretrained(f"{folder}/saved")
saved = DiffusionPipeline.from_pretrained(f"{folder}/saved", custom_pipeline="pipeline", trust_remote_code=True)
paint(saved, "saved")
# The model finds the pixel decoder of its repo.
model = AutoModelForMultimodalLM.from_pretrained(source, trust_remote_code=True)
assert model.decode_image_tokens(output.image_token_ids[0][None]).shape == output.images.shape
"""


@pytest.mark.slow
@pytest.mark.parametrize("source", ["folder", "hub"])
def test_diffusers_remote_code(reader, published, repos, tmp_path, source):
    """By its id and by the name of the file, in a process that has no lavit_hf, and saved there."""
    repo = published if source == "hub" else str(repos["lowres"])
    environment = os.environ | {
        "HF_ENDPOINT": reader.url,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_MODULES_CACHE": str(tmp_path / "modules"),
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", PAINTED_WITHOUT_THE_PACKAGE, str(tmp_path), repo, repo, "pipeline"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert run.returncode == 0, run.stderr
    options = {"num_inference_steps": 2, "generation_kwargs": {"max_new_tokens": 6, "min_new_tokens": 3}}
    pipeline = LaVITPipeline.from_pretrained(repos["lowres"])
    generator = torch.Generator().manual_seed(0)
    expected = pipeline("a red apple", generator=generator, output_type="pt", **options)
    for name in (repo.replace("/", "-"), "pipeline", "saved"):
        picture, ids = torch.load(tmp_path / f"{name}.pt")
        assert torch.equal(ids, expected.image_token_ids[0])
        torch.testing.assert_close(picture, expected.images, rtol=0, atol=1e-4)
    again = LaVITPipeline.from_pretrained(tmp_path / "saved")
    assert_same_weights(again.unet, pipeline.unet)
    assert not list((tmp_path / "saved" / "language_model").rglob("code"))


def test_source_lies_flat(repos):
    """No two modules of one name, none missing, and the same text but for where imports look."""
    code, package = repos["lowres"] / "code", Path(configuration_lavit.__file__).parents[1]
    shipped = {path.name: path.read_text() for path in code.iterdir()}
    sources = find_sources(package / "pixels" / "pipeline_lavit.py")
    assert len({path.name for path in sources}) == len(sources)
    for path in sources:
        assert shipped[path.name] == flatten_imports(path.read_text())
    imported = {name for text in shipped.values() for name in re.findall(r"^\s*from \.(\S*) import", text, re.M)}
    assert imported and {f"{name}.py" for name in imported} <= shipped.keys()


SAVED_WITHOUT_THE_PACKAGE = """
import sys
sys.modules["lavit_hf"] = None
from transformers import AutoModel, AutoModelForImageTextToText, AutoProcessor

repo, folder = sys.argv[1:]
model = AutoModelForImageTextToText.from_pretrained(repo, trust_remote_code=True)
model.save_pretrained(folder + "/model")
model.visual_tokenizer.save_pretrained(folder + "/visual-tokenizer")
model.save_pretrained(folder + "/both")
processor = AutoProcessor.from_pretrained(repo, trust_remote_code=True)
processor.save_pretrained(folder + "/processor")
processor.save_pretrained(folder + "/both")
"""

LOADED_WITHOUT_THE_PACKAGE = """
import sys
sys.modules["lavit_hf"] = None
from transformers import AutoModel, AutoProcessor

folder, codes = sys.argv[1], []
for name in ("model", "both", "visual-tokenizer"):
    model = AutoModel.from_pretrained(f"{folder}/{name}", trust_remote_code=True)
    tokenizer = getattr(model, "visual_tokenizer", model)
    tokenizer.config.selection = "threshold"
    for name in ("processor", "both"):
        processor = AutoProcessor.from_pretrained(f"{folder}/{name}", trust_remote_code=True)
        inputs = processor.image_processor(sys.argv[2], return_tensors="pt")
        codes.append(tokenizer(**inputs).codes[0].tolist())
assert all(entry == codes[0] for entry in codes)
print(codes[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("source", ["folder", "hub"])
def test_remote_code_is_handed_on(reader, published, repos, tmp_path, source):
    """What was loaded by `trust_remote_code` and is saved, each part alone, loads by it again."""
    environment = os.environ | {
        "HF_ENDPOINT": reader.url,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
    }
    repo = published if source == "hub" else str(repos["lowres"])
    outputs = []
    for script, arguments in (
        (SAVED_WITHOUT_THE_PACKAGE, [repo, str(tmp_path)]),
        (LOADED_WITHOUT_THE_PACKAGE, [str(tmp_path), CAT]),
    ):
        own_modules = {"HF_MODULES_CACHE": str(tmp_path / f"modules-{len(outputs)}")}
        command = [sys.executable, "-c", script, *arguments]
        run = subprocess.run(command, env=environment | own_modules, capture_output=True, text=True, timeout=300)
        assert run.returncode == 0, run.stderr
        outputs.append(run.stdout)
    tokenizer = LaVITVisualTokenizer.from_pretrained(repos["lowres"], selection="threshold")
    pixel_values = LaVITProcessor.from_pretrained(repos["lowres"]).image_processor(CAT, return_tensors="pt")
    assert outputs[1] == f"{tokenizer(**pixel_values).codes[0].tolist()}\n"
    source_of_package = Path(configuration_lavit.__file__).parent
    for path in (tmp_path / "both" / "code").iterdir():
        assert path.read_text() == (source_of_package / path.name).read_text()


@pytest.mark.parametrize("include_code", [False, True])
def test_no_folder_promises_source_that_it_has_not(repos, tmp_path, include_code):
    """Loaded out of a repo that has it, and saved by every door."""
    pipeline = LaVITPipeline.from_pretrained(repos["lowres"])
    model, processor = pipeline.language_model, pipeline.processor
    options = {"include_code": True} if include_code else {}
    saved = {
        "pipeline": [pipeline],
        "model": [model],
        "processor": [processor],
        "both": [AutoModel.from_pretrained(repos["lowres"]), AutoProcessor.from_pretrained(repos["lowres"])],
        "image-processor": [processor.image_processor],
        "visual-tokenizer": [model.visual_tokenizer],
    }
    for name, parts in saved.items():
        for part in parts:
            part.save_pretrained(tmp_path / name, **options)
        assert (tmp_path / name / "code").is_dir() == include_code
    promises = [path for path in tmp_path.rglob("*.json") if "auto_map" in path.read_text()]
    assert {path.parent for path in promises} == ({tmp_path / name for name in saved} if include_code else set())
    assert list(tmp_path.rglob("*.py")) == [] or include_code


class TestCommandLine:
    def test_captions(self, reader, published, repos):
        options = ("--seed", "3", "--max-new-tokens", "4", "--num-beams", "1")
        expected = run_lavit("caption", CAT, "--model", str(repos["lowres"]), *options)
        result = run_lavit("caption", CAT, "--model", published, *options)
        assert (result.exit_code, result.stdout) == (0, expected.stdout), result.stderr
        assert "unet/diffusion_pytorch_model.safetensors" not in downloaded_weights(reader)

    def test_info_downloads_no_weights(self, reader, published, repos):
        facts = [json.loads(run_lavit("info", str(repo), "--json").stdout) for repo in (published, repos["lowres"])]
        assert facts[0] | {"model": None} == facts[1] | {"model": None}
        assert max(request.num_bytes for request in reader.downloads()) < 200_000

    def test_unknown_id(self, reader, private):
        for repo_id in ("org/nothing", private):
            result = run_lavit("caption", CAT, "--model", repo_id)
            assert result.exit_code == 1
            assert f"there is no model {repo_id}, neither as a folder nor on the Hub" in result.stderr
            assert "hf auth login" in result.stderr
        assert "not a Hub id such as org/name" in run_lavit("caption", CAT, "--model", "a/b/c").stderr

    def test_no_network(self, reader, published):
        with reader.unplugged():
            result = run_lavit("caption", CAT, "--model", published)
        assert (result.exit_code, result.stdout) == (1, "")
        assert "Check the network" in result.stderr
        assert len(result.stderr.splitlines()) == 1

    @pytest.mark.parametrize(
        ("status", "reason"),
        [
            (403, "the Hub denies access (status 403). Run `hf auth login`"),
            (429, "the Hub does not answer now (status 429). Try again later."),
            (500, "the Hub does not answer now (status 500). Try again later."),
        ],
    )
    def test_hub_that_does_not_tell(self, monkeypatch, status, reason):
        """As huggingface_hub reports it, after several attempts."""

        def refuse(*args):
            response = httpx.Response(status, request=httpx.Request("HEAD", "https://huggingface.co"))
            raise LocalEntryNotFoundError("not found") from HfHubHTTPError("refused", response=response)

        monkeypatch.setattr("lavit_hf.tasks.hub_files.hf_hub_download", refuse)
        result = run_lavit("caption", CAT, "--model", "org/nothing")
        assert result.exit_code == 1 and reason in result.stderr

    @pytest.mark.parametrize("address", ["nonsense", f"http://{'a' * 70}.example"])
    def test_address_that_is_none(self, address):
        command = [sys.executable, "-m", "lavit_hf.cli", "info", "org/nothing"]
        environment = {**os.environ, "HF_ENDPOINT": address}
        result = subprocess.run(command, env=environment, capture_output=True, text=True)
        message = f"lavit info: the address of the Hub, {address}, is not valid. Correct or unset HF_ENDPOINT.\n"
        assert (result.returncode, result.stderr) == (1, message)


def run_lavit(*arguments: str):
    return CliRunner().invoke(app, arguments)
