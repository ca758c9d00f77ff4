"""Progress on the command line, where a signal may end a run."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from odecal._cli.signals import Stop
from odecal._inference.progress import AbstractProgress, NoProgress, shown_progress

if TYPE_CHECKING:  # at once, it would start JAX for the help of the command line
    from odecal.samplers import Run


class StoppableProgress(AbstractProgress):
    """Shows progress, tells what a signal would interrupt, and ends a run after a block of it."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._shown: AbstractProgress = NoProgress()

    def __enter__(self) -> Self:
        self._shown = shown_progress().__enter__()
        return self

    def __exit__(self, *failure: Any) -> None:
        self._stop.does("saving the result" if failure[0] is None else "stopping")
        self._shown.__exit__(*failure)

    def say(self, what: str) -> None:
        """Say what is being done now. See the base class."""
        self._stop.does(what[:1].lower() + what[1:])
        self._shown.say(what)

    def start(self, run: "Run", done: int = 0, headline: str = "") -> None:
        """Announce a run of chains. See the base class."""
        self._stop.does("sampling", sampling=True)
        self._shown.start(run, done, headline)

    def update(self, done: int, stats: Mapping[str, Any], standing: str = "") -> None:
        """Report a block of draws, after which a run ends if a signal has asked for that."""
        self._shown.update(done, stats, standing)
        self._stop.check()
