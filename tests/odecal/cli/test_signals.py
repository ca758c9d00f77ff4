"""Signals to the command line, in each phase: one line, nothing lost, an end at once."""

import signal
import subprocess
import sys
import time

import pytest
import xarray as xr
from test_cli import DATA, SYSTEM

CALIBRATE = "calibrate tank.py:Tank --data data.csv --out x.nc --num-chains 2"
LONG = f"{CALIBRATE} --num-samples 1000000"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tank.py").write_text(SYSTEM)
    (tmp_path / "data.csv").write_text(DATA)
    return tmp_path


def heeding_interrupts(*arguments):
    """A command of Python that stops on SIGINT, which what runs in the background ignores."""
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    return [sys.executable, "-c", code, *arguments]


def signalled(folder, command, phase, signum, count=1):
    """Send a signal when a line of progress appears; the status and the last lines of errors."""
    process = subprocess.Popen(
        heeding_interrupts("-m", "odecal", *command.split()),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith(phase) and count:
            for _ in range(count):
                process.send_signal(signum)
                time.sleep(0.05)
            count, began = 0, time.monotonic()
    status = process.wait()
    assert time.monotonic() - began < 10.0
    assert "Traceback" not in "".join(lines)
    return status, "".join(line for line in lines if line.startswith("odecal: "))


def left(folder):
    return {p.name for p in folder.iterdir()} - {"tank.py", "data.csv", "__pycache__"}


@pytest.mark.parametrize(
    ("phase", "signum"), [("Compiling", signal.SIGINT), ("Looking", signal.SIGTERM)]
)
def test_before_anything_is_drawn_nothing_is_kept(folder, phase, signum):
    status, told = signalled(folder, LONG, phase, signum)
    assert status == 128 + signum
    assert told.count("\n") == 1
    assert f"stopped by {signum.name} while {phase.lower()}" in told
    assert "Nothing had been drawn yet. Nothing is kept." in told
    assert left(folder) == set()


@pytest.mark.slow
def test_while_predicting_the_draws_are_kept(folder):
    size = "--num-warmup 50 --num-samples 50"
    status, told = signalled(folder, f"{CALIBRATE} {size}", "Predicting", signal.SIGTERM)
    assert status == 143
    assert told.endswith("kept in x.nc.partial. To go on: odecal resume x.nc\n")
    status, told = signalled(folder, "resume x.nc", "Compiling", signal.SIGINT)
    assert status == 130
    assert told.endswith("kept in x.nc.partial. To go on: odecal resume x.nc\n")
    run = subprocess.run(
        [sys.executable, "-m", "odecal", "resume", "x.nc"], cwd=folder, check=False
    )
    assert run.returncode == 0
    assert xr.open_datatree(folder / "x.nc")["posterior"].sizes["draw"] == 50
    before = (folder / "x.nc").read_bytes()
    status, told = signalled(folder, "extend x.nc --num-samples 9", "Compiling", signal.SIGINT)
    assert "The file x.nc is as it was." in told
    assert (folder / "x.nc").read_bytes() == before
    assert left(folder) == {"x.nc"}


def test_a_second_signal_while_sampling_ends_at_once(folder):
    status, told = signalled(folder, LONG, "Sampling", signal.SIGINT, count=2)
    assert status == 130
    first, *_, last = told.splitlines()
    assert "stopping after the step at hand" in first
    assert "stopped by SIGINT" in last
    assert not (left(folder) - {"x.nc.partial", "x.nc.partial-journal"})


def test_a_command_is_stopped_while_it_loads(folder):
    process = subprocess.Popen(
        heeding_interrupts("-X", "importtime", "-m", "odecal", *LONG.split()),
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines, sent = [], False
    for line in process.stderr:
        lines.append(line)
        if not sent and line.endswith(" odecal._cli.app\n"):
            process.send_signal(signal.SIGINT)
            sent = True
    assert process.wait() == 130
    assert "Traceback" not in "".join(lines)
    assert "odecal: stopped by SIGINT while" in "".join(lines)


def test_a_signal_that_is_ignored_stays_so(folder):
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from odecal._cli.signals import Stop\n"
        "with Stop(): os.kill(os.getpid(), signal.SIGINT); print('going on')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "going on\n"


def test_handlers_are_put_back():
    from odecal._cli.signals import Stop

    before = signal.getsignal(signal.SIGTERM)
    with Stop():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_interrupt_of_a_script_aborts_nothing():
    """While something compiles, for which Python waits when it ends."""
    code = (
        "import time\nfrom odecal._jax.programs import Compiler\n"
        "class Slow:\n    def compile(self): print('compiling', flush=True); time.sleep(20)\n"
        "with Compiler() as c:\n"
        "    c._futures.append(c._threads.submit(c._compile, Slow()))\n"
        "    time.sleep(20)\n"
    )
    process = subprocess.Popen(
        heeding_interrupts("-c", code),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "compiling\n"
    process.send_signal(signal.SIGINT)
    for line in process.stderr:
        if "KeyboardInterrupt" in line:
            break
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    # Ours, or Python's own where it was done waiting: both are 130 to a shell. An abort is −6.
    assert process.wait() in (130, -signal.SIGINT)
