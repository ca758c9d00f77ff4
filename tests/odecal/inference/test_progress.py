"""Progress, as it is read where there is no terminal."""

import inspect

import numpy as np
import pytest

from odecal._cli.progress import StoppableProgress
from odecal._inference.progress import AbstractProgress, PlainProgress, RichProgress, shown_progress
from odecal.samplers import Run, Target, TemperedSMC


def block(num_draws, diverging=0):
    flags = np.zeros((2, num_draws), bool)
    flags[0, :diverging] = True
    return {"diverging": flags, "step_size": np.full((2, num_draws), 0.25)}


def test_without_a_terminal_there_are_lines(capsys):
    progress = shown_progress()
    assert isinstance(progress, PlainProgress)
    with progress:
        progress.say("Tracing the model")
        progress.start(Run(2, 10, 10))
        progress.update(10, block(10, diverging=3))
        progress.update(20, block(10, diverging=2))
    assert capsys.readouterr().err.splitlines() == [
        "Tracing the model",
        "Sampling, 2 chains: 10 of warm-up, 10 draws",
        "  10/20 transitions, 0 divergent, step 0.25",
        "  20/20 transitions, 2 divergent, step 0.25",
    ]


def test_bars_show_draws_divergences_and_step_size():
    """A block may hold the end of warm-up and the first draws; only the latter count."""
    with RichProgress() as progress:
        progress.start(Run(2, 10, 10))
        progress.update(12, block(12, diverging=12))
        warmup, sampling = progress._bars.tasks
        assert warmup.fields["note"] == "10/10, step 0.25"
        assert sampling.fields["note"] == "2/10, 2 divergent, step 0.25"
        progress.update(20, block(8))
        assert sampling.completed == 10


def tempered(stage, beta):
    return {"stage": np.full((2, 3), stage), "inverse_temperature": np.array([[0, 0, 1.0], beta])}


def test_a_method_may_say_where_it_stands_in_its_own_words(capsys):
    """Tempering in stages and temperatures, of the population furthest behind, each said once."""
    run, target = Run(2, 500, 100), Target(1, *[np.sum] * 3)
    kernel = TemperedSMC().kernel(target, run)
    steps = [(3, tempered(3, [0, 0, 0.0341])), (5, tempered(3, [0, 0, 0.0341]))]
    steps += [(400, tempered(9, [0, 1.0, 1.0])), (600, tempered(9, [1.0, 1.0, 1.0]))]
    progress = PlainProgress()
    progress.start(run, 0, kernel.headline)
    for done, stats in steps:
        progress.update(done, stats, kernel.standing(stats))
    assert capsys.readouterr().err.splitlines() == [
        "Tempering, 2 populations of 1000 particles: from the prior to the posterior, in at most "
        "500 stages",
        "  stage 3, inverse temperature 0.034",
        "  at the posterior after 9 stages",
    ]
    with RichProgress() as bars:
        bars.start(run, 0, kernel.headline)
        stats = tempered(3, [0, 0, 0.0341])
        bars.update(3, stats, kernel.standing(stats))
        warmup, sampling = bars._bars.tasks
        assert warmup.fields["note"] == "stage 3, inverse temperature 0.034"
        assert warmup.total is None
        stats = block(100) | tempered(9, [1.0, 1.0, 1.0])
        bars.update(600, stats, kernel.standing(stats))
        assert warmup.finished
        assert sampling.completed == 100


@pytest.mark.parametrize("method", ["say", "start", "update"])
def test_what_shows_progress_is_told_the_same_everywhere(method):
    expected = inspect.signature(getattr(AbstractProgress, method))
    for cls in (RichProgress, PlainProgress, StoppableProgress):
        assert inspect.signature(getattr(cls, method)) == expected
