# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The `lavit` command line: what it prints and saves, and how it fails."""

import errno
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from PIL import Image

from command_line import STEPS, fail, json_lines, run, succeed
from lavit_hf import LaVITConfig, LaVITForCausalLM, LaVITProcessor, LaVITVisualTokenizer, bundled_checkpoint
from lavit_hf.bundled import BUNDLED_CHECKPOINT
from lavit_hf.lavit.atomic_files import atomic_file
from lavit_hf.tasks.dtypes import choose_dtype
from lavit_hf.tasks.failures import Failure
from lavit_hf.tasks.images import Skipped, find_images, read_batches
from lavit_hf.tasks.loading import choose_batch_size
from lavit_hf.tasks.printing import one_line
from lavit_hf.tasks.reading import CAPTION, answer_to, read_images
from lavit_hf.tasks.repos import find_repo
from lavit_hf.tasks.saving import check_free, name_outputs


COMMANDS = (
    "caption",
    "ask",
    "draw",
    "tokenize",
    "reconstruct",
    "convert",
    "export-llm",
    "eval",
    "demo",
    "serve",
    "info",
)


def load_as_commands_do(model_class: type, repo: str):
    """A model in the dtype that `--dtype auto` stands for on this CPU."""
    return model_class.from_pretrained(repo, dtype=choose_dtype(repo, torch.device("cpu")))


@pytest.fixture(scope="module")
def repo(repos):
    return str(repos["highres"])


@pytest.fixture(scope="module")
def images(golden):
    return [str(path) for path in golden.image_paths[:2]]


@pytest.fixture
def serve():
    """Starts web servers on the loopback interface."""
    servers = []

    def start(handler) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class TestHelp:
    @pytest.mark.parametrize(
        "command, option", [("caption", "--json"), ("eval", "--split"), ("demo", "--port"), ("serve", "--port")]
    )
    def test_imports_nothing_heavy(self, command, option):
        heavy = {"torch", "transformers", "diffusers", "gradio", "fastapi"}
        heavy |= {"lavit_hf.lavit.configuration_lavit", "lavit_hf.page", "lavit_hf.server"}
        process = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "lavit_hf.cli", command, "--help"],
            capture_output=True,
            text=True,
        )
        imported = {line.rpartition("|")[2].strip() for line in process.stderr.splitlines()}
        assert option in process.stdout and "lavit_hf.cli.app" in imported, process.stderr
        assert not heavy & imported

    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_commands(self, command):
        assert f"lavit {command}" in succeed(command, "-h", prog_name="lavit")
        assert command in succeed("--help")

    def test_usage_errors(self):
        assert "No such command" in fail("paint", exit_code=2)
        assert "IMAGES" in fail("caption", exit_code=2)
        assert "3bit" in fail("caption", "cat.jpg", "--quantize", "3bit", exit_code=2)
        assert "not a list of whole numbers" in fail("ablate", "--seeds", "\N{SUPERSCRIPT ONE}", exit_code=2)

    @pytest.mark.parametrize("ratio", ["0", "-0.5", "nan", "1.5"])
    @pytest.mark.parametrize("command", ["tokenize", "reconstruct"])
    def test_shares_that_keep_no_patch(self, command, ratio):
        """Before anything is looked for: the image is not there either."""
        message = fail(command, "nope.png", "--keep-ratio", ratio, exit_code=2)
        assert "--keep-ratio" in message and "nope.png" not in message

    def test_unknown_aspect_ratio(self):
        message = fail("draw", "a cat", "--aspect-ratio", "5:7", "--model", "nowhere", exit_code=2)
        assert "'5:7' is not one of 1:1, 4:3, 3:2, 16:9, 2:3, 3:4" in message


def count_from_two(sources, folder) -> dict:
    outputs, taken = {}, []
    for source in sources:
        stem = Path(source).stem
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        name = next(name for name in itertools.chain([stem], numbered) if name.casefold() not in taken)
        taken.append(name.casefold())
        outputs[source] = folder / f"{name}.png"
    return outputs


class TestFindingImages:
    def test_each_once_in_order(self, tmp_path):
        for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "[1].png"):
            (tmp_path / name).touch()
        (tmp_path / "inner").mkdir()
        (tmp_path / "inner" / "c.webp").touch()
        url = "https://example.org/cat.jpg"
        arguments = [url, tmp_path / "[1].png", tmp_path, tmp_path / "**" / "*.webp", tmp_path / "b.png", "-"]
        found = find_images(map(str, arguments), Skipped())
        files = [str(tmp_path / name) for name in ("[1].png", "a.JPG", "b.png", "inner/c.webp")]
        assert found == [url, *files, "-"]

    def test_none(self, tmp_path):
        result = run("caption", tmp_path, tmp_path / "*.png")
        assert result.exit_code == 1
        assert result.stdout == ""
        assert "it contains no images, and its subfolders are not searched" in result.stderr
        assert f"{tmp_path}/**/*.png" in result.stderr
        assert "no such file" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("lavit caption: there is no image to read")

    def test_nothing_is_not_the_current_folder(self, repo, tmp_path, monkeypatch):
        """As an unset variable is passed."""
        Image.new("RGB", (8, 8)).save(tmp_path / "mine.png")
        monkeypatch.chdir(tmp_path)
        assert "skipped '': no such file" in run("caption", "", "--model", repo).stderr
        assert "the name of the model is empty" in fail("caption", "mine.png", "--model", "")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
    def test_pipes(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        assert find_images([str(tmp_path / "pipe")], Skipped()) == [str(tmp_path / "pipe")]

    def test_names_that_the_system_refuses(self, tmp_path, capsys):
        (tmp_path / "a.png").touch()
        assert find_images(["x" * 300, str(tmp_path)], Skipped()) == [str(tmp_path / "a.png")]
        assert "File name too long" in capsys.readouterr().err

    def test_outputs_of_one_name_are_numbered(self, tmp_path):
        sources = ["a/cat.jpg", "b/Cat.png", "https://example.org/dog.png?size=1", "https://example.org", "-"]
        names = [path.name for path in name_outputs(sources, tmp_path).values()]
        assert names == ["cat.png", "Cat-2.png", "dog.png", "picture.png", "stdin.png"]

    def test_numbers_pass_over_names_that_pictures_have(self, tmp_path):
        sources = ["a/cat-2.jpg", "a/cat.jpg", "b/CAT.jpg", "c/cat-4.jpg", "d/cat.jpg", "e/cat.jpg", "f/cat-2.jpg"]
        (tmp_path / "cat.png").touch()  # a file on the disk changes no name: it is refused, or overwritten if forced
        outputs = name_outputs(sources, tmp_path)
        names = [path.stem for path in outputs.values()]
        assert names == ["cat-2", "cat", "CAT-3", "cat-4", "cat-5", "cat-6", "cat-2-2"]
        with pytest.raises(Failure, match=r"cat\.png already exists"):
            check_free(outputs.values(), force=False)

    def test_names_are_the_first_free_ones(self, tmp_path):
        """Against counting from 2 for every image, over stems that look like numbered ones."""
        stems = ["a", "A", "a-2", "A-3", "a-2-2", "a-02", "a_1", "\N{LATIN SMALL LETTER SHARP S}", "SS", "ss-2"]
        draw = random.Random(0)
        for count in range(200):
            sources = [f"{number}/{draw.choice(stems)}.png" for number in range(count)]
            sources += draw.choices(sources, k=count // 10)  # and some twice
            outputs = name_outputs(sources, tmp_path)
            assert list(outputs.items()) == list(count_from_two(sources, tmp_path).items())

    def test_long_names_are_cut(self, tmp_path):
        """So that they can be written, with their number, while they are unfinished."""
        stems = ["a" * 245, "a" * 244 + "b", "ж" * 120, "a" * 200]
        outputs = list(name_outputs([f"https://example.org/{stem}.png" for stem in stems], tmp_path).values())
        assert [path.stem for path in outputs] == ["a" * 200, "a" * 200 + "-2", stems[2][:100], "a" * 200 + "-3"]
        for path in outputs:
            with atomic_file(path) as file:
                file.write_text("a")

    def test_no_pictures(self, tmp_path):
        assert name_outputs([], tmp_path) == {}


class TestCaptionAndAsk:
    def test_captions_are_the_models(self, repo, images):
        processor, model = LaVITProcessor.from_pretrained(repo), load_as_commands_do(LaVITForCausalLM, repo)
        inputs = processor(images=images, return_tensors="pt")
        inputs = inputs.to(model.dtype)
        ids = model.generate(**inputs, generator=torch.Generator().manual_seed(3))[:, inputs.input_ids.shape[1] :]
        expected = processor.post_process_caption(processor.post_process_image_text_to_text(ids))
        lines = json_lines(succeed("caption", *images, "--model", repo, "--seed", 3, "--json"))
        assert lines == [
            {"image": image, "caption": text, "seed": 3} for image, text in zip(images, expected, strict=True)
        ]

    @pytest.mark.slow
    def test_batches_and_plain_lines(self, repo, images):
        options = ("--model", repo, "--max-new-tokens", 2, "--num-beams", 1, "--batch-size", 1)
        lines = succeed("caption", *images, *options).splitlines()
        assert [line.split(": ")[0] for line in lines] == images
        single = succeed("caption", images[0], *options)
        assert not single.startswith(images[0])

    @pytest.mark.parametrize("task", [CAPTION, answer_to("What is this?")], ids=lambda task: task.name)
    def test_the_common_prompt_is_tokenized_once(self, repo, golden, task):
        processor = LaVITProcessor.from_pretrained(repo)
        prepare = task.preparer(processor)
        for path in golden.image_paths:
            image = Image.open(path).convert("RGB")
            prepared, expected = prepare(image), task.prepare(processor, image)
            torch.testing.assert_close(prepared["input_ids"], expected["input_ids"], rtol=0, atol=0)
            torch.testing.assert_close(prepared["pixel_values"], expected["pixel_values"], rtol=0, atol=0)

    @pytest.mark.parametrize(
        ("width", "number"), [(64, 64), (256, 64), (1024, 32), (2048, 16), (4096, 8), (5120, 8), (8192, 8)]
    )
    def test_smaller_models_read_more_images_at_once(self, repo, tmp_path, width, number):
        config = LaVITConfig.from_pretrained(repo)
        config.text_config.hidden_size = width
        config.save_pretrained(tmp_path)
        assert choose_batch_size(str(tmp_path)) == number

    @pytest.mark.slow
    def test_batches_are_as_large_as_suits_the_model(self, repo, images, monkeypatch):
        sizes = []

        def read(task, samples, *arguments):
            sizes.append(len(samples))
            return read_images(task, samples, *arguments)

        monkeypatch.setattr("lavit_hf.tasks.reading.choose_batch_size", lambda repo: 2)
        monkeypatch.setattr("lavit_hf.tasks.reading.read_images", read)
        options = ("--model", repo, "--max-new-tokens", 2, "--num-beams", 1)
        succeed("caption", *images, *options)
        succeed("ask", "What?", *images, *options)
        succeed("caption", *images, *options, "--batch-size", 1)
        assert sizes == [2, 2, 1, 1]

    def test_seed_that_is_told_repeats(self, repo, images):
        options = ("--model", repo, "--max-new-tokens", 4, "--json")
        first = json_lines(succeed("caption", images[0], *options))
        assert json_lines(succeed("caption", images[0], *options, "--seed", first[0]["seed"])) == first

    def test_answers(self, repo, images):
        options = ("--model", repo, "--seed", 0, "--max-new-tokens", 3, "--json")
        lines = json_lines(succeed("ask", "[IMG] </s> <code_3> <unk>?", *images, *options))
        assert [line["image"] for line in lines] == images
        assert all("answer" in line for line in lines)

    @pytest.mark.parametrize(("text", "message"), [(" \n", "empty"), ("cat " * 2_500_000, "10,000,000 characters")])
    def test_texts_that_are_refused(self, images, text, message):
        assert message in fail("ask", text, images[0], exit_code=2)
        assert message in fail("draw", text, exit_code=2)

    @pytest.mark.slow
    def test_share_of_the_patches(self, repo, images):
        model, processor = LaVITForCausalLM.from_pretrained(repo), LaVITProcessor.from_pretrained(repo)
        inputs = processor(images=images[0], return_tensors="pt")
        ids = model.generate(**inputs, keep_ratio=0.1)[:, inputs.input_ids.shape[1] :]
        expected = processor.post_process_caption(processor.post_process_image_text_to_text(ids))
        line = json.loads(succeed("caption", images[0], "--model", repo, "--keep-ratio", 0.1, "--json"))
        assert (line["caption"], line["kept"], line["patches"]) == (expected[0], 6, 64)

    def test_quantized(self, repo, images):
        pytest.importorskip("bitsandbytes")
        options = ("--model", repo, "--max-new-tokens", 2, "--num-beams", 1)
        assert run("caption", images[0], *options, "--quantize", "8bit").exit_code == 0


class TestTokenize:
    def test_ids_are_the_models(self, repo, images, tmp_path):
        model = load_as_commands_do(LaVITForCausalLM, repo)
        processor = LaVITProcessor.from_pretrained(repo).image_processor
        pixel_values = processor(images, return_tensors="pt").pixel_values.to(model.dtype)
        tokens = model.get_image_tokens(pixel_values, generator=torch.Generator().manual_seed(5))
        lines = json_lines(
            succeed("tokenize", *images, "--model", repo, "--seed", 5, "--json", "--overlay", tmp_path / "kept")
        )
        assert [line["token_ids"] for line in lines] == [ids.tolist() for ids in tokens]
        for line in lines:
            assert line["kept"] == len(line["token_ids"]) - 2
            assert max(Image.open(line["overlay"]).size) == 512
        message = fail("tokenize", *images, "--model", repo, "--overlay", tmp_path / "kept")
        assert "Pass --force to overwrite it, or another --overlay" in message and "--output" not in message

    def test_plain_output_of_one_picture_is_a_json_list(self, repo, images):
        num_patches = LaVITVisualTokenizer.from_pretrained(repo).config.num_patches
        ids = json.loads(succeed("tokenize", images[0], "--model", repo, "--keep-ratio", 0.25))
        assert len(ids) == num_patches / 4 + 2

    def test_as_few_patches_as_an_error_allows(self, repo, images):
        tokenizer = load_as_commands_do(LaVITVisualTokenizer, repo)
        processor = LaVITProcessor.from_pretrained(repo).image_processor
        pixel_values = processor(images, return_tensors="pt").pixel_values.to(tokenizer.dtype)
        outputs = tokenizer(pixel_values, keep_error=0.99)
        lines = json_lines(run("tokenize", *images, "--model", repo, "--keep-error", 0.99, "--json").stdout)
        assert [line["kept"] for line in lines] == outputs.keep_mask.sum(dim=1).tolist()
        assert [line["rebuild_error"] for line in lines] == pytest.approx(outputs.rebuild_errors.tolist(), abs=1e-5)
        assert [line["reaches_keep_error"] for line in lines] == outputs.reaches_keep_error.tolist()

    def test_error_that_is_not_reached(self, repo, images):
        result = run("tokenize", images[0], "--model", repo, "--keep-error", 0.001, "--json")
        line = json.loads(result.stdout)
        assert line["kept"] == line["patches"] == 64
        assert not line["reaches_keep_error"]
        message = f"the error is {line['rebuild_error']:.2f} even with all 64 patches, so all of them are kept."
        assert result.stderr == f"lavit: {images[0]}: {message}\n"

    @pytest.mark.parametrize("command", [("caption",), ("ask", "What?"), ("tokenize",), ("reconstruct",)])
    def test_settings_that_cannot_be(self, images, command):
        message = fail(*command, images[0], "--keep-ratio", 0.5, "--keep-error", 0.5, exit_code=2)
        assert "--keep-ratio and --keep-error each decide which patches are kept" in message
        assert "--keep-ratio must lie in (0, 1]" in fail(*command, images[0], "--keep-ratio", 0, exit_code=2)

    def test_standard_input_and_url(self, repo, images, golden, serve):
        url = serve(partial(SimpleHTTPRequestHandler, directory=golden.root / "images"))
        name = golden.image_paths[0].name
        options = ("--model", repo, "--keep-ratio", 0.5)
        expected = succeed("tokenize", images[0], *options)
        assert succeed("tokenize", "-", *options, input=golden.image_paths[0].read_bytes()) == expected
        result = run("tokenize", f"{url}/{name}", *options)  # the server writes its log to stderr
        assert result.stdout == expected


class TestReadingAhead:
    def test_batches_are_those_of_one_after_the_other(self, images, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"no picture")
        broken = str(tmp_path / "broken.png")
        skipped = Skipped()
        sources = [broken, images[0], images[1], images[0], broken, images[1], images[0], broken]
        batches = list(read_batches(sources, 2, lambda image: image.getpixel((0, 0)), skipped))
        read = {source: Image.open(source).convert("RGB").getpixel((0, 0)) for source in images}
        order = [images[0], images[1], images[0], images[1], images[0]]
        assert batches == [[(source, read[source]) for source in order[start : start + 2]] for start in (0, 2, 4)]
        assert skipped.count == 3

    def test_reads_one_batch_while_the_model_works(self, images):
        is_read = [threading.Event() for _ in range(6)]
        numbers = iter(range(6))

        def prepare(image):
            number = next(numbers)
            is_read[number].set()
            return number

        batches = read_batches([images[0], images[1]] * 3, 2, prepare, Skipped())
        assert [number for _, number in next(batches)] == [0, 1]
        assert is_read[3].wait(timeout=60)  # without asking for it
        assert not is_read[4].wait(timeout=0.2)  # but no more: memory stays bounded
        assert [number for batch in batches for _, number in batch] == [2, 3, 4, 5]

    def test_is_left_without_waiting_for_a_picture(self, images):
        arrives, is_read, numbers = threading.Event(), threading.Event(), itertools.count()

        def prepare(image):
            if next(numbers) == 1:
                arrives.wait(timeout=60)
                is_read.set()
            return True

        batches = read_batches(images, 1, prepare, Skipped())
        assert next(batches) == [(images[0], True)]
        batches.close()  # as Ctrl-C does
        assert not is_read.is_set()
        arrives.set()

    def test_what_goes_wrong_beside_the_model_is_told(self, images):
        def prepare(image):
            raise RuntimeError("no memory")

        with pytest.raises(RuntimeError, match="no memory"):
            list(read_batches(images, 2, prepare, Skipped()))


class TestUnreadable:
    def test_one_among_many(self, repo, images, tmp_path):
        (tmp_path / "broken.png").write_bytes(b"no picture")
        arguments = (images[0], tmp_path / "broken.png", images[1])
        result = run("tokenize", *arguments, "--model", repo, "--json")
        assert result.exit_code == 1
        assert [line["image"] for line in json_lines(result.stdout)] == images
        assert len(result.stderr.splitlines()) == 1
        assert "broken.png" in result.stderr

    def test_far_too_large(self, repo, tmp_path):
        Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
        message = fail("tokenize", tmp_path / "huge.png", "--model", repo)
        assert "too large" in message and "PIL" not in message
        assert f"`magick {tmp_path}/huge.png -resize 4000x4000 huge-small.jpg`" in message

    def test_missing_picture_of_a_prompt(self, repo, tmp_path):
        message = fail("draw", "a cat", "--image", "nowhere.png", "--model", repo, "-o", tmp_path / "a.png")
        assert "nowhere.png: no such file" in message

    def test_nothing_on_standard_input(self, repo):
        assert "standard input is empty. Redirect" in run("caption", "-", "--model", repo, input=b"").stderr


class TestPainting:
    @pytest.mark.slow
    def test_text_and_pictures(self, repo, images, tmp_path):
        output = tmp_path / "new" / "cat.png"
        arguments = ("draw", "<image> as [IMG] </s>", "--image", images[0], "--model", repo, "--seed", 1, *STEPS)
        lines = json_lines(succeed(*arguments, "-n", 2, "-o", output, "--json"))
        paths = [output.with_name(f"cat-{number}.png") for number in (1, 2)]
        assert [line["output"] for line in lines] == [str(path) for path in paths]
        assert sorted(output.parent.iterdir()) == paths
        first = [path.read_bytes() for path in paths]
        succeed(*arguments, "-n", 2, "-o", output, "--force")
        assert [path.read_bytes() for path in paths] == first

    @pytest.mark.slow
    def test_temperature(self, repo, tmp_path):
        def tokens(temperature: float, seed: int) -> list[int]:
            options = ("--model", repo, "--temperature", temperature, "--seed", seed, *STEPS, "--force", "--json")
            return json_lines(succeed("draw", "a cat", *options, "-o", tmp_path / "cat.png"))[0]["token_ids"]

        assert (
            tokens(0, 1) == tokens(0, 2) == tokens(1e-4, 3) == tokens(1e-40, 4)
        )  # the most likely ones, whatever the seed
        assert tokens(3, 1) == tokens(3, 1) != tokens(3, 2)

    def test_an_image_twice(self, repo, images, tmp_path):
        options = ("--model", repo, *STEPS, "-o", tmp_path / "cat.png")
        succeed("draw", "<image> and <image>", "-i", images[0], "-i", images[0], *options)

    def test_existing_file_is_kept(self, repo, tmp_path):
        (tmp_path / "cat.png").write_text("mine")
        assert "--force" in fail("draw", "a cat", "--model", repo, "-o", tmp_path / "cat.png")
        assert (tmp_path / "cat.png").read_text() == "mine"

    def test_link_leads_to_the_new_picture(self, repo, tmp_path):
        (tmp_path / "cat.png").write_text("mine")
        (tmp_path / "cat.png").chmod(0o600)
        (tmp_path / "link.png").symlink_to("cat.png")
        succeed("draw", "a cat", "--model", repo, *STEPS, "-o", tmp_path / "link.png", "--force")
        assert (tmp_path / "link.png").readlink() == Path("cat.png")
        assert Image.open(tmp_path / "cat.png").mode == "RGB"
        assert (tmp_path / "cat.png").stat().st_mode & 0o777 == 0o600

    @pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="only Linux has a /proc")
    def test_folder_that_takes_no_files(self, repo, images):
        message = fail("reconstruct", images[0], "--model", repo, "-o", "/proc/new")
        assert "because /proc takes no files (No such file or directory). Pass another --output." in message

    def test_placeholder_without_a_picture(self, repo, tmp_path):
        assert "<image>" in fail("draw", "<image> red", "--model", repo, "-o", tmp_path / "cat.png")

    def test_nothing_to_paint(self):
        assert "nothing to draw" in fail("draw", exit_code=2)

    def test_unknown_format(self):
        assert ".png" in fail("draw", "a cat", "-o", "cat.txt", exit_code=2)

    def test_reconstruct(self, repo, images, tmp_path):
        lines = json_lines(
            succeed("reconstruct", *images, "--model", repo, "--seed", 1, *STEPS, "-o", tmp_path, "--json")
        )
        assert [Image.open(line["output"]).mode for line in lines] == ["RGB", "RGB"]
        assert "--force" in fail("reconstruct", *images, "--model", repo, "-o", tmp_path)

    @pytest.mark.parametrize(("command", "option"), [("reconstruct", "--output"), ("tokenize", "--overlay")])
    def test_images_are_kept_even_if_forced(self, repo, images, tmp_path, command, option):
        """The result for a.jpg would replace a.png, which may be read only later."""
        for name in ("a.jpg", "a.png"):
            Image.open(images[0]).save(tmp_path / name)
        before = (tmp_path / "a.png").read_bytes()
        message = fail(command, tmp_path / "a.jpg", tmp_path / "a.png", "--model", repo, option, tmp_path, "--force")
        assert f"a.png is one of the images to read. Pass another {option}." in message
        assert (tmp_path / "a.png").read_bytes() == before

    @pytest.mark.slow
    @pytest.mark.parametrize("decoder", ["highres", "lowres"])
    def test_flagged_where_a_checker_ran(self, repos, images, tmp_path, decoder):
        has_checker = (repos[decoder] / "safety_checker").is_dir()
        assert has_checker == (decoder == "lowres")
        options = ("--model", repos[decoder], "--seed", 1, *STEPS, "--json")
        (drawn,) = json_lines(succeed("draw", "a cat", *options, "-o", tmp_path / "cat.png"))
        (rebuilt,) = json_lines(succeed("reconstruct", images[0], *options, "-o", tmp_path / "rebuilt"))
        for line in (drawn, rebuilt):
            assert ("flagged" in line) == has_checker
            assert not has_checker or line["flagged"] == (max(Image.open(line["output"]).getdata(0)) == 0)

    @pytest.mark.parametrize(
        ("error", "exit_code"), [(OSError(errno.ENOSPC, "No space left on device"), 1), (KeyboardInterrupt(), 130)]
    )
    def test_nothing_half_written(self, repo, images, tmp_path, monkeypatch, error, exit_code):
        def stop(*args):
            raise error

        monkeypatch.setattr("lavit_hf.lavit.atomic_files.os.fsync", stop)
        message = fail("tokenize", images[0], "--model", repo, "--overlay", tmp_path / "kept", exit_code=exit_code)
        assert list((tmp_path / "kept").iterdir()) == []
        if exit_code == 1:
            assert message.endswith(".png: No space left on device")


class TestModels:
    def test_other_models(self, tmp_path):
        assert "config.json is missing" in fail("info", tmp_path)
        (tmp_path / "config.json").write_text('{"model_type": "llama"}')
        assert "not a LaVIT model" in fail("info", tmp_path)

    def test_missing_bundled_checkpoint(self, images, tmp_path, monkeypatch):
        monkeypatch.setattr("lavit_hf.bundled.__file__", str(tmp_path / "bundled.py"))
        assert "lavit-emoji is not part of this installation" in fail("caption", images[0])

    def test_unusable_device(self, repo, images):
        assert "'nowhere'" in fail("caption", images[0], "--model", repo, "--device", "nowhere")

    def test_traceback_on_request(self, images, tmp_path):
        result = run("caption", images[0], "--model", tmp_path, env={"LAVIT_DEBUG": "1"})
        assert result.exit_code == 1
        assert "Traceback" in result.stderr

    def test_info_is_right(self, repo):
        model = LaVITForCausalLM.from_pretrained(repo)
        facts = json.loads(succeed("info", repo, "--json"))
        parts = {part["name"]: part for part in facts["parts"]}
        own = ("language model", "understanding branch", "visual tokenizer")
        assert sum(parts[name]["parameters"] for name in own) == model.num_parameters()
        assert parts["visual tokenizer"]["parameters"] == model.visual_tokenizer.num_parameters()
        assert parts["unet"]["bytes"]["float32"] == 4 * parts["unet"]["parameters"]
        assert parts["language model"]["bytes"]["4bit"] < parts["language model"]["bytes"]["8bit"]
        assert facts["ids"]["codes"][0] == model.config.first_code_token_id
        assert facts["pixel_decoder"]["picture_size"] == 64
        assert "codebook size" in succeed("info", repo)
        assert facts["visual_tokenizer"]["encoder"] == model.config.visual_tokenizer_config.encoder_config.model_type

    @pytest.mark.parametrize("content", ["{}", '{"_class_name": "UNet2DConditionModel", "sample_size": [8, 8]}'])
    def test_damaged_pixel_decoder(self, repo, tmp_path, content):
        shutil.copytree(repo, tmp_path / "copy", ignore=shutil.ignore_patterns("*.safetensors"))
        (tmp_path / "copy" / "unet" / "config.json").write_text(content)
        for arguments in (["info", tmp_path / "copy"], ["draw", "a cat", "--height", "64", "-m", tmp_path / "copy"]):
            message = fail(*arguments)
            assert "configurations of the pixel decoder in" in message and "are damaged" in message

    def test_info_names_the_encoder_of_timm(self):
        facts = json.loads(succeed("info", "--json"))
        config = LaVITConfig.from_pretrained(bundled_checkpoint()).visual_tokenizer_config.encoder_config
        assert facts["visual_tokenizer"]["encoder"] == f"timm_backbone ({config.backbone})"


def test_one_line_does_nothing_to_a_terminal():
    assert one_line("a\n\tb\x1b[2Jc\udcff") == "a b\N{REPLACEMENT CHARACTER}[2Jc\N{REPLACEMENT CHARACTER}"
    assert len(one_line("x" * 5000)) < 1100


def test_bundled_checkpoint_by_its_name(tmp_path, monkeypatch):
    """As the results name it; a folder of that name comes first."""
    monkeypatch.chdir(tmp_path)
    assert find_repo(BUNDLED_CHECKPOINT) == find_repo(None) == bundled_checkpoint()
    Path(BUNDLED_CHECKPOINT).mkdir()
    with pytest.raises(Failure, match="lavit-emoji is not a model"):
        find_repo(BUNDLED_CHECKPOINT)
