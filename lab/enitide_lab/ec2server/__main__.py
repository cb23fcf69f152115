"""`python -m enitide_lab.ec2server`: the lab's EC2 until SIGTERM or Ctrl-C.

Prints one JSON line with the addresses once it answers, so that whoever started it need not guess when.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path


def main() -> int:
    """Parse, serve, wait for the end; the exit code."""
    parser = argparse.ArgumentParser(prog="enitide_lab.ec2server", description="the strict EC2 of a lab")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="ADDR:PORT", help="AWS API and lab paths")
    parser.add_argument("--netns", metavar="PATH", help="network namespace of --listen")
    parser.add_argument("--metadata-listen", metavar="ADDR:PORT", help="instance metadata, usually 169.254.169.254:80")
    parser.add_argument("--metadata-netns", metavar="PATH", help="network namespace of --metadata-listen")
    parser.add_argument(
        "--metadata-hop-limit", type=int, default=2, metavar="N", help="hops a token's reply may travel"
    )
    parser.add_argument("--region", default="us-west-2")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--choice", choices=("worst", "dense", "scatter"), default="worst", help="EC2's own choice of addresses"
    )
    parser.add_argument(
        "--instance-types", type=Path, metavar="FILE", help="JSON: further types, {name: {cards, ipv4}}"
    )
    parser.add_argument("--managed-policies", action="store_true", help="IAM knows AWS's managed policies")
    options = parser.parse_args()
    if options.managed_policies:
        os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"

    # Only now: moto reads its settings when it is imported.
    from enitide_lab.ec2model.limits import make_type
    from enitide_lab.ec2server.http import listen
    from enitide_lab.ec2server.server import EC2Server

    types = json.loads(options.instance_types.read_text()) if options.instance_types else {}
    server = EC2Server(
        region=options.region,
        seed=options.seed,
        choice=options.choice,
        instance_types={name: make_type(name, **facts) for name, facts in types.items()},
    )
    server.metadata.hop_limit = options.metadata_hop_limit
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    code = 0
    try:
        ready = {"listen": _join(server.listen(listen(*_split(options.listen), options.netns)))}
        if options.metadata_listen:
            listener = listen(*_split(options.metadata_listen), options.metadata_netns)
            ready["metadata"] = _join(server.listen_metadata(listener))
        print(json.dumps(ready), flush=True)
        ended.wait()
    except OSError as exc:
        wanted = f"{options.listen}, {options.metadata_listen}" if options.metadata_listen else options.listen
        print(f"cannot listen on {wanted}: {exc}", file=sys.stderr)
        code = 1
    finally:
        server.stop()
    return code


def _split(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise SystemExit(f"{text!r} is no address: write ADDR:PORT, such as 127.0.0.1:4566")
    return host.strip("[]"), int(port)


def _join(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
