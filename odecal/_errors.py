"""What odecal raises, and the shape of its messages."""

import difflib
from collections.abc import Iterable


class OdecalError(Exception):
    """Base of every error that odecal raises for a mistake in what it was given.

    The message says what failed, what was expected, what came, and what to do.
    """


class DeclarationError(OdecalError, ValueError):
    """A system is declared wrongly: a name, a shape, a prior, a missing derivative."""


class ObservationError(OdecalError, ValueError):
    """A table of observations does not fit the system."""


class SettingsError(OdecalError, ValueError):
    """Settings of a solve or a sampler that cannot work."""


class SamplingError(OdecalError, RuntimeError):
    """Sampling cannot start or go on."""


class OutputError(OdecalError, OSError):
    """A result cannot be written where it was asked for, or read from where it should be."""


class JournalError(OutputError):
    """The journal of a run cannot be used; the message says where what has been drawn is kept."""


def listed(names: Iterable[object]) -> str:
    """Names for a message: `hare, lynx`, or `(none)`."""
    return ", ".join(str(name) for name in names) or "(none)"


def suggestion(name: str, known: Iterable[str]) -> str:
    """` Did you mean ...?` where a known name is close, else nothing."""
    by_small_letters = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), by_small_letters, n=1, cutoff=0.6)
    return f" Did you mean `{by_small_letters[close[0]]}`?" if close else ""
