"""What a signal does to a command: one line that says what is kept, and an end in good order."""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Ends a command on SIGINT (Ctrl-C) and SIGTERM.

    While it samples, the first signal only asks for an end after the step at hand, and what has
    been drawn is saved; at any other time, or on a second one, the process ends at once. It does
    so from a thread that waits for signals, since a program of XLA cannot be stopped and Python
    runs no handler until it returns; and without finalising the interpreter, which must not be torn
    down while threads compile.

    Signals that are ignored (as under `nohup`) stay so. To be used as a context, by the main
    thread.
    """

    def __init__(self) -> None:
        self.signum = 0  # of the signal that asked for an end
        self._doing = "starting"
        self._sampling = self._drawn = self._saved = False
        self._out: Path | None = None
        self._journal: Path | None = None
        self._old: dict[int, Any] = {}
        self._pipe: tuple[int, int] | None = None

    def __enter__(self) -> "Stop":
        if threading.current_thread() is not threading.main_thread():
            return self
        reading, writing = self._pipe = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for signum in _SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                self._old[signum] = signal.signal(signum, _noted)
        threading.Thread(target=self._watch, args=(reading,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        for signum, handler in self._old.items():
            signal.signal(signum, handler)
        if self._pipe is not None:
            signal.set_wakeup_fd(-1)
            os.close(self._pipe[1])  # ends the thread

    @property
    def status(self) -> int:
        """The exit status of a command that was stopped."""
        return 128 + (self.signum or signal.SIGINT)

    def writes(self, out: Path, journal: Path) -> None:
        """Say what the command works on: the file that it writes, and the journal of its run."""
        self._out, self._journal = out, journal
        self._drawn = journal.exists()  # by an earlier process

    def does(self, what: str, sampling: bool = False) -> None:
        """Say what is being done, such as `compiling`; in sampling the first signal waits."""
        self._doing, self._sampling = what, sampling

    def check(self) -> None:
        """Mark that something has been drawn, and stop there if that was asked for."""
        self._drawn = True
        if self.signum:
            self._sampling = False
            raise KeyboardInterrupt

    def saved(self, out: Path) -> None:
        """Mark that the result has been written."""
        self.does("printing the summary")
        self._out, self._saved = out, True

    def _watch(self, reading: int) -> None:
        """Wait for signals."""
        while data := os.read(reading, 1):
            self._on(data[0])
        os.close(reading)

    def _on(self, signum: int) -> None:
        """What a signal does."""
        if signum not in self._old:
            return
        if self._sampling and not self.signum:
            self.signum = signum
            _tell("stopping after the step at hand; a second signal stops at once.")
            return
        self.signum = signum
        if self._journal is not None and not self._drawn and not self._saved:
            for path in (self._journal, Path(f"{self._journal}-journal")):
                path.unlink(missing_ok=True)  # nothing in it is worth going on with
        _tell(f"stopped by {signal.Signals(signum).name} while {self._doing}. {self._kept()}")
        os._exit(self.status)

    def _kept(self) -> str:
        """What is kept, and how to go on."""
        if self._out is None:
            return "Nothing was written."
        if self._saved:
            return f"The result is saved in {self._out}."
        if self._drawn:
            return (
                f"What has been drawn is kept in {self._journal}. To go on: odecal resume "
                f"{self._out}"
            )
        there = f"The file {self._out} is as it was." if self._out.exists() else "Nothing is kept."
        return f"Nothing had been drawn yet. {there} To start again, repeat the command."


def _noted(signum: int, frame: FrameType | None) -> None:
    """Nothing: the thread that waits has been told."""


def _tell(line: str) -> None:
    """Write a line at once, below a bar of progress where there is one."""
    above = "\n\x1b[?25h" if sys.stderr.isatty() else ""  # and show the cursor again
    text = f"{above}odecal: {line}\n"
    os.write(2, text.encode(errors="backslashreplace"))
