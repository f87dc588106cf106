# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Measures throughput and latency of `lavit serve` by number of clients, with and without batching."""

import argparse
import base64
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from openai import OpenAI
from timing import print_machine, print_table

from lavit_hf.server import Limits
from lavit_hf.server.model import ServedModel, load_served_model
from lavit_hf.server.service import Service
from lavit_hf.server.serving import make_server
from lavit_hf.tasks.addresses import claim_port
from lavit_hf.tasks.options import ModelOptions


PICTURES = sorted((Path(__file__).parents[1] / "examples" / "images" / "emoji").glob("*.png"))
QUESTION = "What category is this?"


@contextmanager
def serving(model: ServedModel, max_batch_size: int) -> Iterator[OpenAI]:
    """Runs a local server and yields a client for it."""
    service = Service(lambda: model, Limits(max_batch_size=max_batch_size))
    port = claim_port("127.0.0.1", 0)
    server = make_server(service, "127.0.0.1", port)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while service.status != "ok":
        time.sleep(0.05)
    try:
        yield OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)
    finally:
        server.should_exit = True
        thread.join()


def measure(send: Callable[[int], object], num_clients: int, num_requests: int) -> tuple[float, list[float]]:
    """Requests per second, and the latency of each in seconds, for clients that send one request after another."""

    def time_one(number: int) -> float:
        start = time.perf_counter()
        send(number)
        return time.perf_counter() - start

    with ThreadPoolExecutor(num_clients) as pool:
        start = time.perf_counter()
        seconds = list(pool.map(time_one, range(num_requests)))
    return num_requests / (time.perf_counter() - start), seconds


def senders(client: OpenAI, steps: int) -> dict[str, Callable[[int], object]]:
    """For each kind of request, a function that sends the request with the given number."""
    urls = [f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" for path in PICTURES]

    def chat(number: int, text: str | None) -> object:
        content = [{"type": "image_url", "image_url": {"url": urls[number % len(urls)]}}]
        content += [{"type": "text", "text": text}] if text else []
        return client.chat.completions.create(model="lavit-emoji", messages=[{"role": "user", "content": content}])

    def paint(number: int) -> object:
        return client.images.generate(prompt="red apple", extra_body={"seed": number, "num_inference_steps": steps})

    return {"caption": partial(chat, text=None), "answer": partial(chat, text=QUESTION), "picture": paint}


def main() -> None:
    """Serve the bundled checkpoint with and without batching, and time clients of both servers in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16], help="numbers of concurrent clients")
    parser.add_argument("--requests", type=int, default=32, help="requests per kind, number of clients and round")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds; the median is shown")
    parser.add_argument("--steps", type=int, default=10, help="number of denoising steps")
    parser.add_argument("--kinds", nargs="+", default=["caption", "answer", "picture"], help="kinds of requests")
    arguments = parser.parse_args()

    print_machine()
    model = load_served_model(ModelOptions())
    rows = []
    with serving(model, 1) as single, serving(model, Limits().max_batch_size) as batched:
        servers = {
            "one by one": senders(single, arguments.steps),
            "in batches": senders(batched, arguments.steps),
        }
        for kind in arguments.kinds:
            for num_clients in arguments.clients:
                runs = {name: [] for name in servers}
                for name in [*servers] * (
                    arguments.rounds + 1
                ):  # A B A B, so that changes in the machine's speed affect both alike
                    runs[name].append(measure(servers[name][kind], num_clients, arguments.requests))
                for name, (_, *rounds) in runs.items():  # the first is a warm-up
                    rate = statistics.median(rate for rate, _ in rounds)
                    seconds = [second for _, round in rounds for second in round]
                    figures = (rate, statistics.median(seconds), max(seconds))
                    print(kind, num_clients, name, *figures, file=sys.stderr)
                    rows.append((kind, str(num_clients), name, *(f"{figure:.2f}" for figure in figures)))
    print_table(("request", "clients", "served", "requests/s", "median, s", "longest, s"), rows)


if __name__ == "__main__":
    main()
