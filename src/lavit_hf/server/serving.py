# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""`lavit serve`: checks for errors before loading the model, and responds to requests while it is loaded."""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..tasks.addresses import announce, bracketed, claim_port, is_loopback
from ..tasks.failures import Failure
from ..tasks.options import ModelOptions
from ..tasks.requests import find_model
from .limits import Limits


if TYPE_CHECKING:
    from .service import Service

PACKAGES = ("fastapi", "uvicorn", "python_multipart")
KEEP_ALIVE_SECONDS = 60  # longer than clients keep idle connections, so that they never use a closed one
MAX_CONNECTIONS = 1000  # including idle ones; further ones are rejected


def serve_api(
    options: ModelOptions,
    host: str,
    port: int,
    seed: int | None = None,
    api_key: str | None = None,
    limits: Limits | None = None,
) -> None:
    """
    Serves a model until it is interrupted.

    Args:
        options (`ModelOptions`):
            The model.
        host (`str`):
            Address to listen on.
        port (`int`):
            Port to listen on; 0 picks a free one.
        seed (`int`, *optional*):
            Random seed for requests without one.
        api_key (`str`, *optional*):
            API key that clients must send. By default, none is required.
        limits ([`Limits`], *optional*):
            Limits for requests.

    Raises:
        Failure: If fastapi or uvicorn is missing, the address cannot be listened on, or the model does not exist.
    """
    check_packages()
    if api_key is not None and not api_key.strip():
        raise Failure("the API key is empty. Pass another, or none.")
    port = claim_port(host, port)
    find_model(options)
    from ..tasks.loading import find_device
    from .model import load_served_model
    from .service import Service

    find_device(options.device)
    outcomes: list[Any] = []

    def tell(outcome: Any) -> None:
        outcomes.append(outcome)
        if isinstance(outcome, Exception):
            server.should_exit = True
            return
        announce(f"{outcome.name} is running at http://{bracketed(host)}:{port}/v1 (press Ctrl-C to stop it)")
        if api_key is None and not is_loopback(host):
            announce("It has no API key: anyone who can reach this machine can use it. To set one, pass --api-key.")

    service = Service(lambda: load_served_model(options, seed), limits, api_key, tell)
    server = make_server(service, host, port)
    server.run()
    if outcomes and isinstance(outcomes[0], Exception):
        raise outcomes[0]


def make_server(service: "Service", host: str, port: int) -> Any:
    """
    Creates the server without running it.

    Args:
        service ([`Service`]):
            The service that handles requests.
        host (`str`):
            Address to listen on.
        port (`int`):
            A free port.

    Returns:
        `uvicorn.Server`. Its `run` raises a [`Failure`] if the port has been taken in the meantime.
    """
    import asyncio

    import uvicorn

    from .app import build_app

    class Server(uvicorn.Server):
        async def startup(self, *args, **kwargs) -> None:
            claim_port(host, port)  # another program may have taken it; the model is not being loaded yet
            try:
                await super().startup(*args, **kwargs)
            except SystemExit as error:
                claim_port(host, port)  # raises an error that explains the problem
                raise Failure(f"the server cannot be started at {host}, port {port}.") from error

        async def shutdown(self, *args, **kwargs) -> None:
            # Before uvicorn waits for requests, because it would also wait for those in the queue.
            await asyncio.to_thread(service.close)
            await super().shutdown(*args, **kwargs)

    config = uvicorn.Config(
        build_app(service),
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(service.limits.closing_seconds),
    )
    return Server(config)


def check_packages() -> None:
    """Raises a [`Failure`] if the server's requirements are not installed."""
    missing = [package for package in PACKAGES if find_spec(package) is None]
    if missing:
        raise Failure(f"the server needs {missing[0]}, which is not installed. Run `pip install 'lavit_hf[serve]'`.")


__all__ = ["check_packages", "make_server", "serve_api"]
