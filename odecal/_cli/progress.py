"""Progress on the command line, where a signal may end a run."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from odecal._cli.signals import Stop
from odecal._inference.progress import Progress, shown_progress


class StoppableProgress(Progress):
    """Shows progress, tells what a signal would interrupt, and ends a run after a block of draws.

    Args:
        stop: what a signal does.
    """

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._shown = Progress()

    def __enter__(self) -> "StoppableProgress":
        self._shown = shown_progress().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.does("saving the result" if kind is None else "stopping")
        self._shown.__exit__(kind, error, trace)

    def say(self, what: str) -> None:
        """Say what is being done now. See the base class."""
        self._stop.does(what[:1].lower() + what[1:])
        self._shown.say(what)

    def start(
        self, num_chains: int, num_warmup: int, num_samples: int, done: int = 0, headline: str = ""
    ) -> None:
        """Announce a run of chains. See the base class."""
        self._stop.does("sampling", sampling=True)
        self._shown.start(num_chains, num_warmup, num_samples, done, headline)

    def update(self, done: int, stats: Mapping[str, Any], standing: str = "") -> None:
        """Report a block of draws, after which a run may end.

        Raises:
            KeyboardInterrupt: if a signal has asked for that.
        """
        self._shown.update(done, stats, standing)
        self._stop.check()
