"""Programs that a test starts and that end with it."""

import subprocess
import time
from contextlib import contextmanager


@contextmanager
def started_until(command, ready, stdout=None, within_s=20.0):
    """The running program, once `ready()` is true. Ended by SIGTERM at the end, by SIGKILL if it does not obey."""
    process = subprocess.Popen(command, stdout=stdout)
    try:
        deadline = time.monotonic() + within_s
        while not ready():
            assert process.poll() is None, f"{command} ended with {process.returncode} before it was ready"
            assert time.monotonic() < deadline, f"{command} is not ready after {within_s:.0f} s"
            time.sleep(0.01)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
