"""Progress of a run, as a person sees it."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:  # at once, it would start JAX for the help of the command line
    from odecal.samplers import Run


class AbstractProgress(ABC):
    """Shows the progress of a run, between its `__enter__` and its `__exit__`."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(self, *failure: Any) -> None: ...

    @abstractmethod
    def say(self, what: str) -> None:
        """Say in a few words what is being done now."""

    @abstractmethod
    def start(self, run: "Run", done: int = 0, headline: str = "") -> None:
        """Announce a run of chains, each of which has made `done` transitions already.

        A headline says what is done where numbers of transitions tell little.
        """

    @abstractmethod
    def update(self, done: int, stats: Mapping[str, Any], standing: str = "") -> None:
        """Report a block of draws, after which each chain has made `done` transitions.

        Statistics are of shape (chain, block). A run with a headline says where it stands.
        """


class NoProgress(AbstractProgress):
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: Any) -> None:
        pass

    def say(self, what: str) -> None:
        """Show nothing."""

    def start(self, run: "Run", done: int = 0, headline: str = "") -> None:
        """Show nothing."""

    def update(self, done: int, stats: Mapping[str, Any], standing: str = "") -> None:
        """Show nothing."""


class RichProgress(AbstractProgress):
    """Bars on the terminal: draws, divergences, step size, time left."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._bars = Bars(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
        )
        self._tasks: list[Any] = []
        self._warmup = 0
        self._divergences = 0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *failure: Any) -> None:
        if failure[0] is None:
            self._finish()
        self._bars.stop()

    def say(self, what: str) -> None:
        """Show a step that has no length of its own."""
        self._finish()
        self._tasks.append(self._bars.add_task(what, total=None, note="", left=""))

    def start(self, run: "Run", done: int = 0, headline: str = "") -> None:
        """Show a bar of warm-up and one of sampling."""
        num_chains, num_warmup, num_samples = run
        self._finish()
        self._warmup, self._divergences = num_warmup, 0
        warmup = headline or f"Warm-up, {num_chains} chains"
        phases = {warmup: None if headline else num_warmup}
        phases |= {f"Sampling, {num_chains} chains": num_samples}
        for name, total in phases.items():
            task = self._bars.add_task(name, total=total, start=False, note="", left="left")
            self._tasks.append(task)
        self._bars.start_task(self._tasks[-2] if done < num_warmup else self._tasks[-1])
        for task, completed in zip(self._tasks[-2:], (done, done - num_warmup), strict=True):
            self._bars.update(task, completed=max(0, completed))

    def update(self, done: int, stats: Mapping[str, Any], standing: str = "") -> None:
        """Move the bars, with divergences after warm-up and the mean step size."""
        warmup, sampling = self._tasks[-2:]
        size = _step_size(stats)
        in_warmup = min(done, self._warmup)
        if standing:
            self._bars.update(warmup, note=standing, left="")
        else:
            self._show(warmup, in_warmup, size)
        drawn = done - self._warmup
        if drawn <= 0:
            return
        if standing:
            self._bars.update(warmup, total=1, completed=1)
        self._bars.start_task(sampling)
        self._divergences += int(np.sum(stats["diverging"][:, -drawn:]))
        self._show(sampling, drawn, f"{self._divergences} divergent{size and ', '}{size}")

    def _show(self, task: Any, completed: int, note: str) -> None:
        """Move one bar."""
        total = int(self._bars.tasks[task].total or 0)
        left = "" if completed >= total else "left"
        count = f"{completed}/{total}, {note}"
        self._bars.update(task, completed=completed, note=count, left=left)

    def _finish(self) -> None:
        """Complete the step that is being shown."""
        for task in self._tasks:
            total = self._bars.tasks[task].total
            total = 1 if total is None else total
            self._bars.update(task, total=total, completed=total, left="")


class PlainProgress(AbstractProgress):
    """Lines of text, for where there is no terminal: one a step, and one each tenth of a run."""

    def __init__(self) -> None:
        self._total = 0
        self._warmup = 0
        self._shown = 0
        self._divergences = 0
        self._standing = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: Any) -> None:
        pass

    def say(self, what: str) -> None:
        """Write what is being done."""
        print(what, file=sys.stderr, flush=True)  # noqa: T201

    def start(self, run: "Run", done: int = 0, headline: str = "") -> None:
        """Write how much there is to do."""
        num_chains, num_warmup, num_samples = run
        self._total, self._warmup = num_warmup + num_samples, num_warmup
        self._shown, self._divergences = 10 * done // self._total, 0
        usual = f"Sampling, {num_chains} chains: {num_warmup} of warm-up, {num_samples} draws"
        self.say(headline or usual)

    def update(self, done: int, stats: Mapping[str, Any], standing: str = "") -> None:
        """Write how far it is, at each tenth; or where it stands, whenever that is news."""
        if standing:
            if standing != self._standing:
                self.say(f"  {standing}")
            self._standing = standing
            return
        drawn = done - self._warmup
        if drawn > 0:
            self._divergences += int(np.sum(stats["diverging"][:, -drawn:]))
        if 10 * done // self._total > self._shown:
            self._shown = 10 * done // self._total
            size = _step_size(stats)
            self.say(
                f"  {done}/{self._total} transitions, {self._divergences} divergent"
                f"{size and ', '}{size}"
            )


def _step_size(stats: Mapping[str, Any]) -> str:
    """The mean step size of the chains in words, empty for a method that has none."""
    if "step_size" not in stats:
        return ""
    return f"step {float(np.mean(stats['step_size'][:, -1])):.2g}"


def shown_progress() -> AbstractProgress:
    """Bars where standard error is a terminal or a notebook, else lines of text."""
    from rich.console import Console

    console = Console(stderr=True)
    return RichProgress() if console.is_terminal or console.is_jupyter else PlainProgress()
