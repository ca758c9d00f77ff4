"""Progress, as it is read where there is no terminal."""

import numpy as np

from odecal._progress import PlainProgress, RichProgress, shown_progress


def block(num_draws, diverging=0):
    flags = np.zeros((2, num_draws), bool)
    flags[0, :diverging] = True
    return {"diverging": flags, "step_size": np.full((2, num_draws), 0.25)}


def test_without_a_terminal_there_are_lines(capsys):
    progress = shown_progress()
    assert isinstance(progress, PlainProgress)
    with progress:
        progress.say("Tracing the model")
        progress.start(2, 10, 10)
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
        progress.start(2, 10, 10)
        progress.update(12, block(12, diverging=12))
        warmup, sampling = progress._bars.tasks
        assert warmup.fields["note"] == "10/10, step 0.25"
        assert sampling.fields["note"] == "2/10, 2 divergent, step 0.25"
        progress.update(20, block(8))
        assert sampling.completed == 10
