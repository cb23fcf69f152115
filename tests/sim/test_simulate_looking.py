"""What people see of a simulation: the picture, the summary, the progress bar, and warnings."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from support.simulating import HEAD, NODE, WORLD, simulate

from enitide_lab.simulate.reading import read
from enitide_lab.simulate.run import run
from enitide_lab.simulate.series import MOST, Recorder, Sample
from enitide_lab.simulate.simulation import Simulation
from enitide_lab.simulate.summary import summary

pytestmark = pytest.mark.sim

STORY = """
events:
- {announce: n}
- settle
- {snapshot: cold}
- {use: {node: n, inUse: 7}}
- {advance: 10m}
"""


def recorded(body: str) -> list[Sample]:
    recorders: list[Recorder] = []

    def on_step(sim: Simulation, number: int) -> None:
        if not recorders:
            recorders.append(Recorder(sim))

    run(read(HEAD + WORLD + NODE + body), on_step=on_step)
    recorders[0].close()
    return recorders[0].samples


def test_samples_tell_pools_deficits_and_calls_over_time() -> None:
    samples = recorded(STORY)
    assert samples[0].provisioned == 0
    assert max(each.lacking for each in samples) == 4
    assert samples[-1].lacking == 0
    assert (samples[-1].provisioned, samples[-1].in_use) == (15, 7)
    assert samples[-1].mutations == 5
    assert [each.time_s for each in samples] == sorted(each.time_s for each in samples)


def test_a_long_run_keeps_no_more_samples_than_a_picture_needs() -> None:
    samples = recorded(STORY.replace("10m", "20h"))
    assert MOST / 3 < len(samples) <= MOST + 1


def test_samples_change_nothing_in_the_run() -> None:
    plain = simulate(STORY)
    watched = run(read(HEAD + WORLD + NODE + STORY), on_step=_recording())
    assert plain == watched


def _recording():
    recorders: list[Recorder] = []

    def on_step(sim: Simulation, number: int) -> None:
        if not recorders:
            recorders.append(Recorder(sim))

    return on_step


def test_plot_writes_a_png_beside_the_summary(tmp_path: Path) -> None:
    story, picture = tmp_path / "story.yaml", tmp_path / "picture.png"
    story.write_text(HEAD + WORLD + NODE + STORY)
    program = str(Path(sys.executable).with_name("enitide"))
    done = subprocess.run(
        [program, "simulate", str(story), "--plot", str(picture)],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "cold: at" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    assert picture.stat().st_size > 10_000


def test_a_picture_that_cannot_be_written_is_told_without_a_traceback(tmp_path: Path) -> None:
    story = tmp_path / "story.yaml"
    story.write_text(HEAD + WORLD + NODE + "events: []\n")
    program = str(Path(sys.executable).with_name("enitide"))
    done = subprocess.run(
        [program, "simulate", str(story), "--plot", str(tmp_path / "none" / "p.png")],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_progress_bar_is_drawn_at_a_terminal_only_and_never_on_standard_output(tmp_path: Path) -> None:
    story = tmp_path / "story.yaml"
    story.write_text(HEAD + WORLD + NODE + STORY)
    program = str(Path(sys.executable).with_name("enitide"))
    main, terminal = pty.openpty()
    done = subprocess.run(
        [program, "simulate", str(story), "--json"], stdout=subprocess.PIPE, stderr=terminal, check=False, timeout=90
    )
    os.close(terminal)
    drawn = b""
    try:
        while chunk := os.read(main, 65536):
            drawn += chunk
    except OSError:
        pass  # how a terminal whose other end is closed says that it has ended
    os.close(main)
    assert done.returncode == 0
    assert b"virtual" in drawn
    assert done.stdout.startswith(b"{")


def test_the_summary_says_what_lacks_and_why() -> None:
    output = simulate(
        "events:\n- {announce: n}\n- settle\n",
        world=WORLD.replace("cidr: 10.0.0.0/20", "cidr: 10.0.0.0/24, free: 2, wholePrefixes: 0"),
    )
    told = summary(output)
    assert "2 provisioned" in told
    assert "2 needed" in told
    assert "SubnetExhausted 1" in told


def test_the_scenario_of_the_guide_ends_as_the_guide_says() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "simulate.md").read_text()
    scenario = guide.split("```yaml\n")[1].split("```")[0]
    told = summary(run(read(scenario, "docs/simulate.md")))
    for words in ("rush: at 42", "SubnetExhausted 4", "s-1 0 free, 0 whole /28", "RequestLimitExceeded"):
        assert words in told
        assert words in guide


def test_a_fault_that_never_ends_does_not_hang_settle() -> None:
    sims: list[Simulation] = []
    body = "events:\n- {ec2: {fail: mutations, code: InternalError}}\n- {announce: n}\n- settle\n"
    output = run(read(HEAD + WORLD + NODE + body), on_step=lambda sim, _number: sims.append(sim))
    assert output["end"]["time_s"] < 7 * 3600
    assert any("not at rest" in line for line in sims[0].warnings)
