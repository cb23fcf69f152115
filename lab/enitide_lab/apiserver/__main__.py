"""`python -m enitide_lab.apiserver`: the embedded API server as a program of its own.

It writes the kubeconfig when it answers, so a file that is there means a server that is ready. Ends at SIGTERM or
SIGINT with exit code 0; 2 for arguments it cannot use.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from enitide_lab.apiserver.kubeconfig import write_kubeconfig
from enitide_lab.apiserver.server import ApiServer
from enitide_lab.apiserver.sockets import listen_socket, url_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m enitide_lab.apiserver", description="the lab's API server")
    parser.add_argument(
        "--listen",
        action="append",
        default=[],
        metavar="ADDRESS:PORT[@NETNS]",
        help="where to listen (port 0: any); @PATH makes the socket in that network namespace; may be repeated",
    )
    parser.add_argument(
        "--netns", default=None, metavar="PATH", help="network namespace of each --listen that names none of its own"
    )
    parser.add_argument("--kubeconfig-out", type=Path, metavar="FILE", help="written once the server answers")
    parser.add_argument(
        "--token",
        default="",
        help="bearer token that clients must send (default: none, since kubectl sends none over plain http)",
    )
    return parser.parse_args(argv)


def parse_listen(text: str) -> tuple[str, int, str]:
    """Address, port and namespace path ('' for none) of one `--listen`. `ValueError` with what to write instead."""
    place, _, netns = text.partition("@")
    address, colon, port = place.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError(f"--listen {text!r}: write ADDRESS:PORT, such as 127.0.0.1:6443 or [::1]:0")
    return address.strip("[]"), int(port), netns


def open_sockets(listen: Sequence[str], default_netns: str | None) -> list[socket.socket]:
    """The listening sockets. `ValueError` for an address that cannot be read, `OSError` for one that cannot be had."""
    sockets: list[socket.socket] = []
    try:
        for text in listen or ["127.0.0.1:0"]:
            address, port, netns = parse_listen(text)
            sockets.append(listen_socket(address, port, netns=netns or default_netns))
    except (ValueError, OSError):
        for sock in sockets:
            sock.close()
        raise
    return sockets


async def serve(options: argparse.Namespace, sockets: Sequence[socket.socket]) -> None:
    """Until a signal."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    urls = [url_of(sock) for sock in sockets]
    async with ApiServer(token=options.token).serve(sockets):
        if options.kubeconfig_out:
            write_kubeconfig(options.kubeconfig_out, urls[0], options.token)
        print("listening on", *urls, flush=True)
        await stop.wait()


def main() -> int:
    """Exit code."""
    options = arguments()
    try:
        sockets = open_sockets(options.listen, options.netns)
    except (ValueError, OSError) as error:
        print(f"apiserver: {error}", file=sys.stderr)
        return 2
    asyncio.run(serve(options, sockets))
    return 0


if __name__ == "__main__":
    sys.exit(main())
