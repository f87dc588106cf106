# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""The page of `lavit demo`: it says and paints what the commands do, and shows errors as messages."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import pytest
import requests
import torch
from PIL import Image
from typer.testing import CliRunner

from lavit_hf.cli.app import app
from lavit_hf.page.serving import start
from lavit_hf.tasks.addresses import claim_port
from lavit_hf.tasks.failures import Failure
from lavit_hf.tasks.kept import KeptPatches
from lavit_hf.tasks.limits import InputLimits
from lavit_hf.tasks.options import ModelOptions


pytest.importorskip("gradio", reason="gradio is not installed: pip install '.[page]'")

import gradio as gr
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from lavit_hf.page.bodies import BoundedBodies
from lavit_hf.page.codebook import compare_codes, nearest_codes, nearest_patches
from lavit_hf.page.drawing import DrawSettings, default_settings, draw
from lavit_hf.page.figures import GRID_SIZE, draw_codes, draw_patch, draw_probabilities, patch_at
from lavit_hf.page.inspection import describe_steps, inspect_images
from lavit_hf.page.messages import shown
from lavit_hf.page.model import PageModel, load_page_model
from lavit_hf.page.page import MAX_WAITING, build_page
from lavit_hf.page.uploads import example_paths, picture_input, take_uploads_only


SEED = 3
AS_TRAINED = ("As trained", 0.5, 0.5)
LOOPBACK = ("127.0.0.1", "::1", "localhost", "0.0.0.0")
ENDINGS = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]

no_signals = pytest.mark.skipif(sys.platform == "win32", reason="no signals to send")


@pytest.fixture(scope="module")
def repo(repos) -> str:
    return str(repos["highres"])


@pytest.fixture(scope="module")
def model(repo) -> PageModel:
    return load_page_model(ModelOptions(repo), SEED)


@pytest.fixture(scope="module")
def blind(converted) -> PageModel:
    """A model without a pixel decoder."""
    return load_page_model(ModelOptions(str(converted)), SEED)


@pytest.fixture(scope="module")
def strangers():
    """Collects addresses beyond this machine that anything connects to."""
    addresses, connect = [], socket.socket.connect

    def watch(self, address):
        if isinstance(address, tuple) and address[0] not in LOOPBACK:
            addresses.append(address)
            raise OSError("no network")
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", watch)
        yield addresses


@pytest.fixture(scope="module")
def url(model, strangers, tmp_path_factory):
    """The page, served."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        page = build_page(model)
        yield start(page, "127.0.0.1", claim_port("127.0.0.1", 0))
        page.close(verbose=False)


@pytest.fixture(scope="module")
def client(url, tmp_path_factory) -> Client:
    return Client(url, verbose=False, analytics_enabled=False, download_files=tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def picture(golden) -> str:
    return str(golden.image_paths[0])


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def command(*arguments) -> dict:
    """What a command of the same seed says."""
    result = run(*arguments, "--seed", SEED, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[0])


def wait_until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refused(client: Client, *arguments, api_name: str) -> str:
    with pytest.raises(AppError) as error:
        client.predict(*arguments, api_name=api_name)
    return error.value.message


class TestServer:
    def test_port_in_use(self, monkeypatch):
        monkeypatch.setattr(
            "lavit_hf.page.model.load_page_model", lambda *args: pytest.fail("loaded a model for nothing")
        )
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            result = run("demo", "--port", port)
        assert result.exit_code == 1
        assert f"port {port} is in use" in result.stderr
        assert "--port 0" in result.stderr
        assert len(result.stderr.splitlines()) == 1

    def test_port_taken_in_the_meantime(self, model):
        with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(Failure, match="is in use"):
            start(build_page(model), "127.0.0.1", server.getsockname()[1])

    def test_foreign_address(self):
        result = run("demo", "--host", "203.0.113.7", "--port", 0)
        assert result.exit_code == 1
        assert "203.0.113.7 is not an address of this machine" in result.stderr

    @pytest.mark.parametrize("host", ["a" * 64, "a..b"])
    def test_address_that_cannot_exist(self, host):
        result = run("demo", "--host", host, "--port", 0)
        assert result.exit_code == 1
        assert f"the address '{host}' does not exist" in result.stderr

    def test_missing_gradio(self, monkeypatch):
        monkeypatch.setattr("lavit_hf.page.serving.find_spec", lambda name: None)
        result = run("demo")
        assert result.exit_code == 1
        assert "pip install 'lavit_hf[page]'" in result.stderr

    def test_no_such_model(self, tmp_path):
        result = run("demo", "--port", 0, "--model", tmp_path)
        assert result.exit_code == 1
        assert "config.json is missing" in result.stderr

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    @pytest.mark.parametrize("variable", ["http_proxy", "ALL_PROXY"])
    def test_goes_through_no_proxy(self, blind, monkeypatch, host, variable):
        """gradio requests the page on its start. What other requests do stays as it is set."""
        monkeypatch.setenv("no_proxy", "example.org")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setenv(variable, f"http://127.0.0.1:{claim_port('127.0.0.1', 0)}")  # where nobody listens
        page = build_page(blind)
        try:
            assert start(page, host, claim_port(host, 0)).startswith("http://")
        finally:
            page.close(verbose=False)
        assert (os.environ["no_proxy"], os.environ.get("NO_PROXY")) == ("example.org", None)

    def test_page_that_cannot_be_reached(self, blind, monkeypatch):
        def fail(*args, **kwargs):
            raise httpx.ConnectError("no route")

        monkeypatch.setattr(httpx, "get", fail)
        page = build_page(blind)
        with pytest.raises(Failure, match="cannot be reached from this machine: no route"):
            start(page, "127.0.0.1", claim_port("127.0.0.1", 0))
        page.close(verbose=False)

    @pytest.fixture
    def folders(self, monkeypatch, tmp_path) -> Path:
        """Where the page creates its folder for uploads and results."""
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
        return tmp_path

    @pytest.fixture
    def passed_over(self):
        """Signals do nothing, except to the command."""
        before = {number: signal.signal(number, lambda *_: None) for number in ENDINGS}
        yield
        for number, handler in before.items():
            signal.signal(number, handler)

    @no_signals
    @pytest.mark.parametrize("number", ENDINGS)
    def test_ends_by_a_signal(self, model, monkeypatch, folders, passed_over, number):
        ended, urls = threading.Event(), []

        def send():
            while not ended.wait(0.05):
                os.kill(os.getpid(), number)  # also while it ends

        def start_and_end(*arguments):
            urls.append(start(*arguments))
            sender.start()
            return urls[0]

        sender = threading.Thread(target=send)
        monkeypatch.setattr("lavit_hf.page.model.load_page_model", lambda *_: model)
        monkeypatch.setattr("lavit_hf.page.serving.start", start_and_end)
        try:
            result = run("demo", "--port", 0)
        finally:
            ended.set()
            sender.join()
        assert result.exit_code == 0, result.output
        assert "http://127.0.0.1:" in urls[0]
        assert list(folders.iterdir()) == []  # uploads and results

    @no_signals
    @pytest.mark.parametrize("number", ENDINGS)
    def test_ends_while_it_loads(self, monkeypatch, folders, passed_over, number):
        def load(*_):
            assert list(folders.iterdir())
            os.kill(os.getpid(), number)
            pytest.fail("went on")

        monkeypatch.setattr("lavit_hf.page.model.load_page_model", load)
        result = run("demo", "--port", 0)
        assert result.exit_code == 0, result.output
        assert list(folders.iterdir()) == []

    @no_signals
    def test_outlives_its_terminal_if_told_so(self, monkeypatch, folders, passed_over):
        """By `nohup`, which ignores SIGHUP."""
        outlived = []

        def load(*_):
            os.kill(os.getpid(), signal.SIGHUP)
            outlived.append(True)
            os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr("lavit_hf.page.model.load_page_model", load)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert run("demo", "--port", 0).exit_code == 0
        assert outlived

    def test_uploads_are_bounded(self, url):
        files = {"files": ("huge.png", b"0" * (InputLimits().picture_bytes + 1))}
        response = requests.post(f"{url}gradio_api/upload", files=files)
        assert response.status_code == 413
        assert "exceeded" in response.text

    def test_uploads_are_bounded_together(self, url):
        files = [("files", (f"{number}.png", b"0" * 2**24)) for number in range(5)]
        response = requests.post(f"{url}gradio_api/upload", files=files)
        assert response.status_code == 413
        assert response.json() == {"error": "the request is larger than 64 MB. Send less."}

    @pytest.mark.parametrize("has_length", [True, False])
    def test_numbers_in_a_body_keep_nobody_waiting(self, url, has_length):
        """Two million numbers are refused unread, whether or not their length is told first."""
        body = b'{"data": [' + b"0," * 2_000_000 + b"0]}"
        response = requests.post(
            f"{url}gradio_api/queue/join",
            data=body if has_length else iter([body[:100_000]] * 20),
            headers={"Content-Type": "application/json"},
        )
        assert response.status_code == 413
        assert "larger than 1 MB" in response.text

    def test_a_full_disk_takes_no_more(self, url, tmp_path):
        """What lies in the folder counts, whoever uploaded it."""
        (tmp_path / "older").mkdir()
        (tmp_path / "older" / "picture.png").write_bytes(b"0" * 101)
        statuses = []

        async def send(message):
            statuses.append(message.get("status"))

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def accept(scope, receive, send):
            await send({"type": "http.response.start", "status": 200})

        scope = {"type": "http", "path": "/gradio_api/upload", "headers": []}
        for stored_bytes in (100, 101):
            bodies = BoundedBodies(accept, InputLimits(stored_bytes=stored_bytes), tmp_path)
            asyncio.run(bodies(scope, receive, send))
        assert [status for status in statuses if status] == [507, 200]

    def test_uploads_that_break_off_are_deleted(self, url, caplog):
        folder, address = Path(os.environ["GRADIO_TEMP_DIR"]), ("127.0.0.1", httpx.URL(url).port)
        head = (
            "POST /gradio_api/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
            '--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        )
        with socket.create_connection(address) as client:
            client.sendall(head.encode() + b"0" * 4000)
            wait_until(lambda: list(folder.glob("tmp*")))
        wait_until(lambda: not list(folder.glob("tmp*")), seconds=10.0)
        assert not caplog.records

    def test_what_uploads_leave_behind_is_deleted(self, url, picture, monkeypatch):
        """As if the disk were full. It counted for ever, until the page took no more uploads."""
        leftover = Path(os.environ["GRADIO_TEMP_DIR"]) / "tmpabcd_123"
        leftover.write_bytes(b"0")
        kept = requests.post(f"{url}gradio_api/upload", files={"files": Path(picture).read_bytes()}).json()
        monkeypatch.setattr("lavit_hf.page.bodies.SECONDS_BETWEEN_COUNTS", 0.0)
        for age, is_left in ((0, True), (7200, False)):
            for path in (leftover, *map(Path, kept)):
                os.utime(path, (time.time() - age, time.time() - age))
            requests.post(f"{url}gradio_api/upload", files={"files": b"another"})
            assert leftover.exists() == is_left
        assert all(Path(path).is_file() for path in kept)  # which gradio deletes itself

    def test_nothing_else_is_deleted(self, tmp_path):
        """Neither what gradio keeps or the user has put there, nor what a link points to."""
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        names = ("tmpaaaaaaaa", "tmpbbbbbbbb", "notes.txt", "folder/tmpaaaaaaaa", "../elsewhere/tmpcccccccc")
        folder = tmp_path / "uploads"
        (folder / "folder").mkdir(parents=True)
        (folder / "tmpdddddddd").symlink_to(elsewhere)
        (folder / "tmpeeeeeeee").symlink_to(elsewhere / "tmpcccccccc")
        (folder / "tmpffffffff").mkdir()
        for name in names:
            (folder / name).write_bytes(b"0")
            os.utime(folder / name, (0, 0))
        bodies = BoundedBodies(None, InputLimits(), folder, tracked=lambda: [str(folder / "tmpbbbbbbbb")])
        bodies._stored_bytes()
        assert not (folder / "tmpaaaaaaaa").exists()
        assert all((folder / name).exists() for name in names[1:])
        assert len(list(folder.iterdir())) == 6

    def test_nothing_passes_the_queue(self, url, model):
        for name in ("caption", "draw", "show_code"):
            response = requests.post(f"{url}gradio_api/run/{name}", json={"data": [0, None]})
            assert response.status_code == 404
        queued = [function for function in build_page(model).fns.values() if function.queue]
        assert len(queued) >= 5
        assert {(function.concurrency_id, function.concurrency_limit) for function in queued} == {("model", 1)}

    def test_load_is_bounded(self, client, picture, monkeypatch):
        gate, started, running, most = threading.Event(), threading.Event(), [], []

        def wait(model, image, keep):
            running.append(1)
            most.append(len(running))
            started.set()
            gate.wait(60)
            running.pop()
            # No two alike: gradio writes a result into a file named after its content, even while that is sent.
            return KeptPatches(torch.arange(64) != len(most))

        monkeypatch.setattr("lavit_hf.page.read_tab.find_kept", wait)

        def keep():
            return client.submit(handle_file(picture), *AS_TRAINED, api_name="/keep")

        jobs, too_many = [keep()], 3
        assert started.wait(60)  # the queue is empty, whatever was in it before
        jobs += [keep() for _ in range(MAX_WAITING + too_many)]
        deadline = time.monotonic() + 60
        while sum(job.done() for job in jobs) < too_many:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        gate.set()
        errors = [error for job in jobs if (error := job.exception()) is not None]
        assert len(errors) == too_many
        assert all("full" in str(error) for error in errors)
        assert max(most) == 1

    def test_everything_is_served_from_here(self, url, client, strangers):
        html = requests.get(url).text
        theme = requests.get(f"{url}theme.css").text
        assert "@font-face" in theme
        assert "http" not in theme.replace("http://www.w3.org", "")
        assert '"analytics_enabled":false' in html.replace(" ", "")
        assert strangers == []


class TestRead:
    @pytest.mark.slow
    def test_caption_is_the_commands(self, client, repo, picture):
        text, overlay, note = client.predict(handle_file(picture), *AS_TRAINED, api_name="/caption")
        assert text == command("caption", picture, "--model", repo)["caption"]
        assert max(Image.open(overlay).size) == 512
        assert "of 64 patches" in note

    def test_answer_is_the_commands(self, client, repo, picture):
        question = "[IMG] </s> <code_3> <unk>?"
        text, *_ = client.predict(question, handle_file(picture), *AS_TRAINED, api_name="/ask")
        assert text == (command("ask", question, picture, "--model", repo)["answer"] or "(nothing)")

    def test_share_of_the_patches(self, client, model, picture):
        before = model.visual_tokenizer.config.to_dict()
        for share, count in ((0.25, 16), (1, 64)):
            _, note = client.predict(handle_file(picture), "A share", share, 0.5, api_name="/keep")
            assert note.startswith(f"{count} of 64 patches kept")
        note = client.predict(handle_file(picture), "A share", 0.5, 0.5, api_name="/caption")[-1]
        assert note.startswith("32 of 64")
        assert model.visual_tokenizer.config.to_dict() == before

    def test_as_many_patches_as_an_error_needs(self, client, model, picture):
        pixel_values = model.prepare(Image.open(picture).convert("RGB"))
        outputs = model.visual_tokenizer(pixel_values, keep_error=0.95)
        for api_name in ("/keep", "/caption"):
            note = client.predict(handle_file(picture), "As many as needed", 0.5, 0.95, api_name=api_name)[-1]
            assert note.startswith(f"{int(outputs.keep_mask.sum())} of 64 patches kept")
            assert f"the error is {float(outputs.rebuild_errors[0]):.2f}" in note.lower()
        _, note = client.predict(handle_file(picture), "As many as needed", 0.5, 0.05, api_name="/keep")
        assert note.startswith("64 of 64") and "needs more patches than there are" in note

    def test_no_picture_no_overlay(self, client):
        overlay, note = client.predict(None, *AS_TRAINED, api_name="/keep")
        assert overlay is None
        assert note

    @pytest.mark.parametrize("api_name", ["/keep", "/caption", "/look_inside"])
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("note.png", b"no picture", "note.png&quot; is not an image in a format"),
            ("empty.png", b"", "is empty (0 bytes)"),
            ("drawing.svg", b"<svg/>", "is not an image in a format"),
        ],
    )
    def test_unreadable_picture(self, client, tmp_path, name, content, message, api_name):
        (tmp_path / name).write_bytes(content)
        text = refused(client, handle_file(tmp_path / name), *AS_TRAINED, api_name=api_name)
        assert message in text
        assert "/" not in text  # nor where the server keeps it

    @pytest.mark.parametrize("side", [10_000, 20_000])
    def test_far_too_large_picture(self, client, tmp_path, side):
        Image.new("1", (side, side)).save(tmp_path / "huge.png")
        message = refused(client, handle_file(tmp_path / "huge.png"), *AS_TRAINED, api_name="/caption")
        assert message == "&quot;huge.png&quot; has more than 50 million pixels. Scale it down first."

    def test_no_picture(self, client):
        for api_name in ("/caption", "/look_inside"):
            assert "No image is chosen" in refused(client, None, *AS_TRAINED, api_name=api_name)

    @pytest.mark.parametrize(
        ("question", "message"),
        [(" \n", "The text is empty."), (None, "The text is empty."), ("cat " * 100_000, "400,000 characters")],
    )
    def test_questions_that_are_refused(self, client, picture, question, message):
        assert message in refused(client, question, handle_file(picture), *AS_TRAINED, api_name="/ask")

    @pytest.mark.parametrize("value", [None, "many"])
    def test_shares_that_are_no_numbers(self, client, picture, value):
        message = refused(client, handle_file(picture), "A share", value, 0.5, api_name="/caption")
        assert message == "Share of patches: send a number from 0.05 to 1.0."

    def test_nothing_is_downloaded(self, client, strangers, golden):
        """Neither for an image nor where a text is expected, also not from this machine."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            link = f"http://127.0.0.1:{server.getsockname()[1]}/cat.png"
            path = {"path": link, "meta": {"_type": "gradio.FileData"}}
            assert "does not download anything" in refused(client, path, *AS_TRAINED, api_name="/caption")
            refused(client, path, None, *AS_TRAINED, api_name="/ask")
            server.settimeout(0.2)
            with pytest.raises(TimeoutError):
                server.accept()

    def test_files_of_the_server_are_not_read(self, client, repo):
        path = {"path": f"{repo}/config.json", "meta": {"_type": "gradio.FileData"}}
        refused(client, path, *AS_TRAINED, api_name="/caption")

    @pytest.mark.parametrize("api_name", ["/caption", "/look_inside", "/draw"])
    @pytest.mark.parametrize("kind", ["absolute", "relative", "link", "missing"])
    def test_images_of_the_server_are_not_read(self, client, picture, tmp_path, api_name, kind):
        """Neither by a name in a form that gradio does not check, nor is it told which files there are."""
        (tmp_path / "link.png").symlink_to(picture)
        named = {
            "relative": os.path.relpath(picture),
            "link": f"{tmp_path}/link.png",
            "missing": f"{tmp_path}/none.png",
        }
        given = {"path": named.get(kind, picture)}
        if api_name == "/draw":
            arguments = ("a cat", [{"image": given, "caption": None}], 1, *TestDraw.SETTINGS, SEED, 1)
        else:
            arguments = (given, *AS_TRAINED)
        assert "was not uploaded" in refused(client, *arguments, api_name=api_name)

    def test_folder_of_an_upload_is_no_upload(self, tmp_path):
        """gradio would note it for deletion, fail to delete it, and never delete anything again."""
        block = picture_input("Image", "image")
        take_uploads_only(block)
        with pytest.raises(gr.Error, match="was not uploaded"):
            asyncio.run(block.async_move_resource_to_block_cache(str(tmp_path)))
        assert not block.temp_files


class TestDraw:
    SETTINGS = (1, 1.0, 1.0, 0.7)  # steps, guidances, temperature

    OPTIONS = ("--steps", 1, "--guidance", 1, "--token-guidance", 1, "--temperature", 0.7)

    def draw(self, client, prompt, images=(), num_images=1, seed=None, settings=SETTINGS):
        gallery = [{"image": handle_file(image), "caption": None} for image in images]
        return client.predict(prompt, gallery, num_images, *settings, seed, api_name="/draw")

    def test_is_what_the_command_draws(self, client, repo, picture, tmp_path):
        prompt = "<image> as [IMG] </s>"
        drawn, note = self.draw(client, prompt, [picture], num_images=2, seed=1)
        options = ("--model", repo, "--seed", 1, "-n", 2, *self.OPTIONS)
        assert run("draw", prompt, "--image", picture, *options, "-o", tmp_path / "a.png").exit_code == 0
        for number, entry in enumerate(drawn, start=1):
            expected = Image.open(tmp_path / f"a-{number}.png")
            assert Image.open(entry["image"]).tobytes() == expected.tobytes()
        assert note.startswith("Seed 1. Tokens: ")

    def test_seed_that_is_told_repeats(self, client):
        first, note = self.draw(client, "a cat")
        seed = int(note.split(".")[0].split()[1])
        assert seed != SEED  # an empty field is a new seed each time
        second, repeated = self.draw(client, "a cat", seed=seed)
        assert Path(first[0]["image"]).read_bytes() == Path(second[0]["image"]).read_bytes()
        assert repeated == note

    def test_pictures_alone(self, client, picture):
        assert len(self.draw(client, "", [picture])[0]) == 1

    def test_whole_numbers(self, client):
        """Whatever a client of the page's API sends."""
        assert len(client.predict("a cat", [], 2.4, 1.4, 1.0, 1.0, 0.7, 0, 1.4, api_name="/draw")[0]) == 2

    def test_candidates(self, client, repo, tmp_path):
        drawn, _ = client.predict("a cat", [], 1, *self.SETTINGS, 2, 3, api_name="/draw")
        options = ("--model", repo, "--seed", 2, *self.OPTIONS)
        assert run("draw", "a cat", *options, "--candidates", 3, "-o", tmp_path / "a.png").exit_code == 0
        assert Image.open(drawn[0]["image"]).tobytes() == Image.open(tmp_path / "a.png").tobytes()

    def test_progress(self, model):
        reports = []
        settings = DrawSettings(2, 3, 1.0, 1.0)
        output, _ = draw(model, "a cat", [], settings, lambda *report: reports.append(report))
        written = [done for done, _, what in reports if what == "Writing tokens"]
        assert written == list(range(1, len(written) + 1))
        assert len(written) == max(len(ids) for ids in output.image_token_ids) - 1
        assert [report for report in reports if report[2] == "Drawing"] == [(n, 3, "Drawing") for n in (1, 2, 3)]

    @pytest.mark.parametrize(
        ("prompt", "message"),
        [
            ("", "The text is empty."),
            ("cat " * 100_000, "400,000 characters"),
            ("<image> red", "&lt;image&gt;"),
            ("cat " * 2_400, "tokens"),
        ],
    )
    def test_prompts_that_are_refused(self, client, prompt, message):
        assert message in refused(client, prompt, [], 1, *self.SETTINGS, None, api_name="/draw")

    @pytest.mark.parametrize("index", range(7))
    def test_settings_out_of_bounds(self, client, index):
        settings = [1, 1, 1.0, 1.0, 0.7, 0, 1]
        settings[index] = 2**60
        assert "maximum" in refused(client, "a cat", [], *settings, api_name="/draw")

    @pytest.mark.parametrize("index", [0, 1, 2, 3, 4, 6])
    def test_settings_that_are_null(self, client, index):
        settings = [1, 1, 1.0, 1.0, 0.7, 0, 1]
        settings[index] = None
        assert "send a number from" in refused(client, "a cat", [], *settings, api_name="/draw")

    def test_unreadable_picture(self, client, tmp_path):
        (tmp_path / "note.png").write_bytes(b"no picture")
        gallery = [{"image": handle_file(tmp_path / "note.png"), "caption": None}]
        message = refused(client, "<image>", gallery, 1, *self.SETTINGS, None, api_name="/draw")
        assert "note.png&quot; is not an image" in message

    def test_no_pixel_decoder(self, blind, picture, tmp_path, monkeypatch):
        assert blind.pipeline is None
        with pytest.raises(Failure, match="has no pixel decoder"):
            draw(blind, "a cat", [], DrawSettings(1, 1, 1.0, 1.0), print)
        handlers = {function.api_name: function.fn for function in build_page(blind).fns.values()}
        assert "draw" not in handlers
        assert {"caption", "ask"} <= set(handlers)  # the other tabs work without
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        upload = shutil.copy(picture, tmp_path)
        inspection, _, codes, _, _, rebuilt, _ = handlers["look_inside"](upload, *AS_TRAINED)
        assert codes.size == (GRID_SIZE, GRID_SIZE)
        assert rebuilt is None
        alone, patches = handlers["show_code"](inspection.codes[0], inspection)
        assert alone == []
        assert patches[0][1] == str(inspection.codes[0])

    def test_defaults_are_the_pipelines(self, model):
        defaults = default_settings(model)
        assert defaults.guidance == model.pipeline.config.default_guidance_scale
        assert defaults.steps == model.pipeline.config.default_num_inference_steps
        generation = model.language_model.generation_config.image_generation
        assert defaults.token_guidance == generation["guidance_scale"]
        assert defaults.temperature == generation.get("temperature", 1.0)


class TestLookInside:
    def test_ids_are_the_commands(self, client, repo, picture):
        steps, *figures, ids = client.predict(handle_file(picture), *AS_TRAINED, api_name="/look_inside")
        tokens = command("tokenize", picture, "--model", repo)
        assert [int(number) for number in ids.split()] == tokens["token_ids"]
        assert f"{tokens['kept']} of 64 patches kept" in steps
        assert [Image.open(figure).mode for figure in figures] == ["RGB"] * 4

    def test_without_a_pixel_decoder(self, blind, picture):
        inspection = inspect_images(blind, [Image.open(picture).convert("RGB")])[0]
        assert [name for name, _ in describe_steps(blind, inspection)][-1] == "Language model"

    def test_rebuilt_features(self, model, picture):
        image = Image.open(picture).convert("RGB")
        inspection = inspect_images(model, [image], {"keep_ratio": 1.0})[0]
        outputs = model.visual_tokenizer(model.prepare(image), torch.ones(1, 64, dtype=torch.bool))
        assert inspection.codes == outputs.codes[0].tolist()
        rebuilt = model.pipeline.detokenizer(outputs.quantized).features
        cosines = torch.cosine_similarity(rebuilt.float(), outputs.last_hidden_state.float(), dim=-1)
        assert inspection.similarity == pytest.approx(cosines.mean().item(), abs=1e-3)

    def test_figures(self, model, picture):
        inspection = inspect_images(model, [Image.open(picture).convert("RGB")], {"keep_ratio": 0.25})[0]
        codes = draw_codes(inspection)
        assert codes.size == (GRID_SIZE, GRID_SIZE)
        assert draw_probabilities(inspection).mode == "RGB"
        side = GRID_SIZE // 8
        for patch in range(64):
            row, column = divmod(patch, 8)
            assert patch_at(inspection, column * side + 1, row * side + side - 1) == patch
            box = codes.crop((column * side, row * side, (column + 1) * side, (row + 1) * side))
            is_grey = all(r == g == b for r, g, b in box.resize((8, 8)).getdata())
            assert is_grey == (inspection.code_of(patch) is None)
            assert draw_patch(inspection, patch).size == draw_patch(inspection, 0).size
        assert patch_at(inspection, GRID_SIZE, GRID_SIZE) == 63

    def test_codebook(self, client, model, picture):
        alone, patches = client.predict(7, api_name="/show_code")
        rows = torch.nn.functional.normalize(model.visual_tokenizer.quantizer.codebook.weight.float(), dim=-1)
        best = (rows @ rows[7]).topk(len(alone)).indices.tolist()
        assert [int(entry["caption"].split()[0]) for entry in alone] == best
        captions = [entry["caption"] for entry in patches]
        assert len(captions) == 8
        similarities = [1.0 if caption == "7" else float(caption.split()[-1]) for caption in captions]
        assert similarities == sorted(similarities, reverse=True)

    def test_patches_of_a_code(self, model, golden):
        images = [Image.open(path).convert("RGB") for path in golden.image_paths]
        inspections = inspect_images(model, images, {"keep_ratio": 0.5})
        code = inspections[1].codes[5]
        similarities = compare_codes(model, code)
        assert nearest_codes(similarities, code, 2)[0].code == code
        first = nearest_patches(similarities, inspections, 4)[0]
        assert first.code == code
        assert first.inspection.code_of(first.patch) == code

    def test_no_such_code(self, client, model):
        size = model.visual_tokenizer.config.codebook_size
        assert "maximum" in refused(client, size, api_name="/show_code")
        assert "No code is chosen" in refused(client, None, api_name="/show_code")
        with pytest.raises(Failure, match=f"0 to {size - 1}"):
            compare_codes(model, size)


class TestMessages:
    @pytest.mark.parametrize(
        ("error", "message", "logged"),
        [
            (ValueError("the <image> is bad"), "The &lt;image&gt; is bad", False),
            (Failure("the text is empty."), "The text is empty.", False),
            (OSError(28, "No space left on device", "/tmp/a.png"), "/tmp/a.png: No space left on device", True),
            (RuntimeError("out of luck"), "RuntimeError: out of luck", True),
            (gr.Error("as it is"), "as it is", False),
        ],
    )
    def test_one_sentence(self, error, message, logged, caplog):
        @shown
        def handler():
            raise error

        with pytest.raises(gr.Error) as raised:
            handler()
        assert raised.value.message.startswith(message)
        assert bool(caplog.records) == logged


def test_examples_are_there():
    assert example_paths()
    for path in example_paths():
        assert Image.open(path).size
        assert os.path.getsize(path) < 2**20
