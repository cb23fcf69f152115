"""Boots the guest, runs the eBPF tests in it and tells the outcome, judged by the line in the port `rc` alone.

QEMU without hardware acceleration, one CPU (more panics now and then under it), this machine's root shared read-only
by virtiofs: nothing is copied, nothing is installed in the guest. A guest that ends without a line is tried once more,
then is a failure.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import initramfs

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "kernels"
REPORT = ROOT / "build" / "results" / "kernels.xml"
VIRTIOFSD = Path("/usr/lib/qemu/virtiofsd")
BOUND_S = 420
# A guest must not outlive this program, however that ends.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
MEMORY_MIB = 1024
# Every object and its maps; every pair of pods by both routings; what a pod may not send; policy and its short way; an
# upgrade; traces with kernel probes. The rest needs no old kernel.
CHOSEN = "every_object or takes_over or crash or dies_at or reach_each_other or whole or spoofed or too_big or lost_pin"
MODULES = ("loader", "packets", "policy", "host_policy", "stamp", "upgrade", "trace")
FILES = " ".join(f"tests/bpf/test_{module}.py" for module in MODULES)
WHOLE = "test_policy or its_own_pods or asks_no_map or becomes_a_pod or survives_an_upgrade or test_trace"
COMMAND = (
    "exec .venv/bin/python -m pytest -p no:cacheprovider -q --junitxml=/run/junit.xml "
    f"{FILES} -k '({CHOSEN} or {WHOLE}) and not filters' --timeout 240\n"
)


def skip(reason: str) -> int:
    """A run that cannot be is one visible skip."""
    suite = ET.Element("testsuite", name="kernels", tests="1", skipped="1")
    case = ET.SubElement(suite, "testcase", classname="kernels", name="guest")
    ET.SubElement(case, "skipped", message=reason)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    ET.ElementTree(suite).write(REPORT)
    print(f"SKIPPED [1] make test-kernels: {reason}\n1 skipped")
    return 0


def qemu(kernel: Path, version: str, initrd: Path, fs_socket: Path) -> list[str]:
    """The command line; ports are files in `WORK`."""
    append = f"console=ttyS0 quiet panic=-1 reboot=t ENITIDE_TREE={ROOT} ENITIDE_KERNEL={kernel}"
    command = [
        *DIES_WITH_US,
        "qemu-system-x86_64",
        "-accel",
        "tcg,tb-size=128",
        "-M",
        "q35",
        "-cpu",
        "max",
        "-smp",
        "1",
    ]
    command += ["-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config", "-nographic", "-no-reboot"]
    command += ["-object", f"memory-backend-memfd,id=memory,size={MEMORY_MIB}M,share=on", "-numa", "node,memdev=memory"]
    command += ["-chardev", f"socket,id=tree,path={fs_socket}", "-device", "vhost-user-fs-pci,chardev=tree,tag=tree"]
    command += ["-device", "virtio-serial-pci"]
    for name in ("out", "junit", "rc"):
        command += ["-chardev", f"file,id={name},path={WORK / name}"]
        command += ["-device", f"virtserialport,chardev={name},name={name}"]
    command += ["-serial", f"file:{WORK / 'console'}", "-kernel", str(kernel / "boot" / f"vmlinuz-{version}")]
    return [*command, "-initrd", str(initrd), "-append", append]


def wait_for(condition: Callable[[], bool], bound_s: float) -> bool:
    """Poll until true; False at the bound."""
    deadline = time.monotonic() + bound_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def run(kernel: Path, version: str) -> int | None:
    """One guest from boot to end; the tests' exit code, or None if the guest did not tell one."""
    for name in ("out", "junit", "rc", "console"):
        (WORK / name).unlink(missing_ok=True)
    initrd = WORK / "initrd"
    initrd.write_bytes(initramfs.build(kernel / "lib" / "modules" / version, Path(__file__).parent / "init"))
    (WORK / "command.sh").write_text(COMMAND)
    with tempfile.TemporaryDirectory(prefix="enitide-guest-") as folder, (WORK / "host.log").open("wb") as log:
        fs_socket = Path(folder) / "fs"
        options = "source=/,cache=always,sandbox=chroot"
        sharing = [*DIES_WITH_US, str(VIRTIOFSD), f"--socket-path={fs_socket}", "-o", options, "--thread-pool-size=0"]
        daemon = subprocess.Popen(sharing, stdout=log, stderr=log)
        try:
            if not wait_for(fs_socket.exists, 10):
                return None
            guest = subprocess.Popen(
                qemu(kernel, version, initrd, fs_socket), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            try:
                guest.wait(BOUND_S)
            except subprocess.TimeoutExpired:
                print(f"the guest did not end within {BOUND_S} s", file=sys.stderr)
            finally:
                guest.kill()
                guest.wait()
        finally:
            daemon.kill()
            daemon.wait()
    line = (WORK / "rc").read_text().strip() if (WORK / "rc").exists() else ""
    return int(line.removeprefix("rc=")) if line.startswith("rc=") else None


def main() -> int:
    """Run, once more if the guest told nothing; print what the tests printed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kernel", type=Path)
    parser.add_argument("--skip", metavar="REASON")
    arguments = parser.parse_args()
    if arguments.skip:
        return skip(arguments.skip)
    if not VIRTIOFSD.exists():
        return skip(f"{VIRTIOFSD} is missing (package qemu-system-common)")
    WORK.mkdir(parents=True, exist_ok=True)
    kernel: Path = arguments.kernel
    version = next((kernel / "lib" / "modules").iterdir()).name
    started = time.monotonic()
    code = None
    for attempt in ("first", "second"):
        code = run(kernel, version)
        if code is not None:
            break
        print(f"{attempt} guest ended without a result; the end of its console:", file=sys.stderr)
        console = WORK / "console"
        print(
            "\n".join(console.read_text(errors="replace").splitlines()[-30:]) if console.exists() else "",
            file=sys.stderr,
        )
    if (WORK / "out").exists():
        print((WORK / "out").read_text(errors="replace"), end="")
    if code is None:
        print(f"1 failed: no result from Linux {version} in a guest")
        return 1
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_bytes((WORK / "junit").read_bytes())
    print(
        f"Linux {version} in a guest: {'passed' if code == 0 else f'failed (pytest exit {code})'} "
        f"after {time.monotonic() - started:.0f} s"
    )
    return 1 if code else 0


if __name__ == "__main__":
    sys.exit(main())
