# Copyright 2026 The lavit_hf authors. All rights reserved.
# SPDX-License-Identifier: Apache-2.0
"""Addresses that the page and the server listen on."""

import errno
import ipaddress
import socket
from contextlib import suppress

from .failures import Failure


def claim_port(host: str, port: int) -> int:
    """
    Checks that an address can be listened on.

    Args:
        host (`str`):
            Host name or IP address.
        port (`int`):
            The port; 0 picks a free one.

    Returns:
        `int`: the port.

    Raises:
        Failure: If the port is in use or not permitted, or the address is not one of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((host, port), family=family) as server:
            return server.getsockname()[1]
    except (socket.gaierror, UnicodeError) as error:  # the latter for labels that no host name can have
        raise Failure(
            f"the address {host!r} does not exist. Pass --host 127.0.0.1, or 0.0.0.0 for all addresses."
        ) from error
    except OSError as error:
        raise Failure(_explain(error, host, port)) from error


def announce(text: str) -> None:
    """Prints a line about what is served. If standard output is closed or full, that is no reason to stop serving."""
    with suppress(OSError, ValueError):  # a closed stream raises a `ValueError`
        print(text, flush=True)


def bracketed(host: str) -> str:
    """Formats an address for URLs, in which IPv6 addresses are in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Whether an address can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} is in use, maybe by another `lavit`. Choose another with --port {_neighbour(port)}, or any "
            "free one with --port 0."
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is not an address of this machine. Pass --host 127.0.0.1, or 0.0.0.0 for all addresses."
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"this user may not open port {port}. Choose one above 1023 with --port."
    return f"cannot listen on port {port} of {host}: {error.strerror}"


def _neighbour(port: int) -> int:
    return port + 1 if port < 65535 else port - 1
