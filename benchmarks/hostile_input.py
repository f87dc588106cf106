# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""
Measures the memory and time that hostile input takes: images of extreme shapes, large downloads, long texts, and a
request body with 20 million numbers. For the latter, the time is the longest wait of another user of the demo page.

Memory is the peak on top of what the process used before reading. Requires Linux, where the peak can be reset.
"""

import argparse
import ctypes
import gc
import gzip
import io
import resource
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image

from lavit_hf import LaVITImageProcessor, LaVITImageProcessorPil, LaVITProcessor, bundled_checkpoint
from lavit_hf.lavit.image_loading import load_image


PICTURES = {
    "photograph, 12 million pixels": (4000, 3000),
    "square, 50 million pixels": (7071, 7071),
    "square, 64 million pixels": (8000, 8000),
    "strip of a million": (1, 1_000_000),
    "horizontal strip of a million": (1_000_000, 1),
    "strip of 20 million": (1, 20_000_000),
}
BACKENDS = {"pil": LaVITImageProcessorPil, "torchvision": LaVITImageProcessor}


def make_reader(backend: str, name: str) -> Callable[[], object]:
    """A function that reads a white image from a file."""
    file = io.BytesIO()
    Image.new("1", PICTURES[name], 1).save(file, "PNG")
    data, image_processor = file.getvalue(), BACKENDS[backend](size=224)
    image_processor(Image.new("RGB", (400, 300)), return_tensors="pt")
    return lambda: image_processor(data, return_tensors="pt")


def make_download(name: str) -> Callable[[], object]:
    """A function that downloads from a server that sends 400 MB of zeros, with or without compression."""
    packed = gzip.compress(bytes(400 * 2**20))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            if self.path == "/packed":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            for part in [packed] if self.path == "/packed" else [bytes(2**20)] * 400:
                self.wfile.write(part)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *args: None  # the client disconnected
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return lambda: load_image(f"http://127.0.0.1:{server.server_port}/{name}")


def make_text(num_characters: int) -> Callable[[], object]:
    """A function that tokenizes a text."""
    processor = LaVITProcessor.from_pretrained(bundled_checkpoint())
    processor(text="a cat")
    text = "a cat </s> [IMG] " * (num_characters // 17)
    return lambda: processor(text=text)


def make_body(num_numbers: int) -> Callable[[], object]:
    """A function that sends numbers to the demo page while another user repeatedly sends small requests."""
    import requests

    from lavit_hf.page.model import load_page_model
    from lavit_hf.page.page import build_page
    from lavit_hf.page.serving import claim_port, start
    from lavit_hf.tasks.options import ModelOptions

    url = start(build_page(load_page_model(ModelOptions(device="cpu"))), "127.0.0.1", claim_port("127.0.0.1", 0))
    body = b'{"data": [' + b"0," * num_numbers + b'0], "fn_index": 0, "session_hash": "a"}'
    headers = {"Content-Type": "application/json"}

    def send() -> float:
        sender = threading.Thread(
            target=requests.post, args=(f"{url}gradio_api/queue/join", body), kwargs={"headers": headers}
        )
        sender.start()
        longest = 0.0
        while sender.is_alive():
            asked = time.perf_counter()
            requests.get(f"{url}gradio_api/startup-events")
            longest = max(longest, time.perf_counter() - asked)
        return longest

    return send


def measure(call: Callable[[], object]) -> tuple[float, float, str]:
    """The memory in MB and the time in seconds that a call takes, and its outcome."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # otherwise, memory freed by earlier cases would hide the use of this one
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, start = peak_megabytes(), time.perf_counter()
    result, seconds = "read", None
    try:
        value = call()
        seconds = value if isinstance(value, float) else None
    except (ValueError, MemoryError, RuntimeError) as error:
        result = f"{type(error).__name__}: {str(error)[-60:]}"
    return peak_megabytes() - before, seconds or time.perf_counter() - start, result


def peak_megabytes() -> float:
    """Peak memory of this process, in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


CASES = {
    **{f"{name}, {backend}": (make_reader, (backend, name)) for name in PICTURES for backend in BACKENDS},
    "download of 400 MB": (make_download, ("plain",)),
    "download of 0.4 MB that decompresses to 400 MB": (make_download, ("packed",)),
    "text of 10,000 characters": (make_text, (10_000,)),
    "text of 1,000,000 characters": (make_text, (1_000_000,)),
    "body of 20 million numbers": (make_body, (20_000_000,)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-memory", type=int, default=14, help="maximum address space of this process, in GB")
    resource.setrlimit(resource.RLIMIT_AS, (parser.parse_args().max_memory << 30,) * 2)
    print("| input | memory, MB | time, s | |\n| --- | --- | --- | --- |")
    for name, (make, arguments) in CASES.items():
        megabytes, seconds, result = measure(make(*arguments))
        print(f"| {name} | {megabytes:.0f} | {seconds:.1f} | {result} |", flush=True)


if __name__ == "__main__":
    main()
