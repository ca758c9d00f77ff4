"""Where an input turns: the samples that a step of a solve must not pass.

A step looks at an input at a few times only, its stages. Where the input is, from one end of the
step to the other, a cubic polynomial to within the tolerance, they see all of it. Of any stretch
of samples this is tried, for stretches of eight, sixteen, … at once; where it is not so each
sample is an end. So noisy samples are stepped through one by one, and smooth ones by the dozen.
"""

from typing import NamedTuple

import numpy as np

# The shortest stretch, in samples, and how far, by what it spans, an input may leave the cubic.
_SHORTEST, _APART = 8, 1e-2
# Of an area, by the relative tolerance of a solve.
_AREA = 10.0


# Where polynomials are held, and their values there, of shape (stretch, node).
Nodes = tuple[np.ndarray, np.ndarray]


class Pieces(NamedTuple):
    """An input of one or more individuals between each sample and the next, of shape (n,)."""

    left: np.ndarray  # the samples, by number
    begins: np.ndarray  # whether a piece is the first of its individual
    times: np.ndarray  # of the samples, as are the values
    values: np.ndarray
    middle: np.ndarray  # the value half-way
    half: np.ndarray  # the integral from the sample to half-way
    whole: np.ndarray  # the integral to the next sample


def pieces_of(
    individual: np.ndarray, times: np.ndarray, values: np.ndarray, slopes: np.ndarray | None
) -> Pieces:
    """The pieces of an input between samples: cubics of given slopes, or lines for None.

    Individuals do not decrease, and times rise within an individual.
    """
    left = np.flatnonzero(individual[1:] == individual[:-1])
    begins = np.append(True, np.diff(individual[left]) != 0)[: len(left)]
    width = times[left + 1] - times[left]
    y0, y1 = values[left], values[left + 1]
    rise = (y1 - y0) / np.where(width > 0, width, 1.0)
    m0, m1 = (rise, rise) if slopes is None else (slopes[left], slopes[left + 1])
    bend = width * (m0 - m1)
    middle = (y0 + y1) / 2 + bend / 8
    whole = width * ((y0 + y1) / 2 + bend / 12)
    # Of a cubic of these ends and slopes, from 0 to 1/2.
    half = width * (13 * y0 + 3 * y1) / 32 + width**2 * (11 * m0 - 5 * m1) / 192
    return Pieces(left, begins, times, values, middle, half, whole)


def turns(pieces: Pieces, rtol: float) -> np.ndarray:
    """The samples that no step may pass, by number."""
    count = len(pieces.left)
    if not count:
        return pieces.left
    first = np.maximum.accumulate(np.where(pieces.begins, np.arange(count), 0))
    place = np.arange(count) - first
    longest = int(place.max()) + 1
    tried: list[tuple[np.ndarray, np.ndarray]] = []
    while (size := _SHORTEST << len(tried)) <= 2 * longest:
        starts = np.flatnonzero(place % size == 0)
        tried.append((starts, _smooth(pieces, starts, rtol)))
    inside = np.zeros(count, bool)  # a piece that does not begin a stretch
    done = np.zeros(count, bool)
    for starts, smooth in reversed(tried):
        of = np.repeat(smooth, np.diff(np.append(starts, count))) & ~done
        inside |= of & ~np.isin(np.arange(count), starts)
        done |= of
    ends = np.append(pieces.begins[1:], True)
    return np.union1d(pieces.left[~inside], pieces.left[ends] + 1)


def _smooth(pieces: Pieces, starts: np.ndarray, rtol: float) -> np.ndarray:
    """Whether each stretch is a cubic, and its integral a quartic, to within the tolerance."""
    count = len(pieces.left)
    last = np.append(starts[1:], count) - 1
    size = last - starts + 1
    long = size >= _SHORTEST
    of = np.repeat(np.arange(len(starts)), size)
    t0, t1 = pieces.times[pieces.left[starts]], pieces.times[pieces.left[last] + 1]
    width = np.where(t1 > t0, t1 - t0, 1.0)
    base = pieces.values[pieces.left[starts]]
    times, values = pieces.times[pieces.left], pieces.values[pieces.left]
    step = pieces.times[pieces.left + 1] - times
    # Times by the length of the stretch, values from its first on, integrals accordingly.
    s = np.stack([times - t0[of], times + step / 2 - t0[of]]) / width[of]
    u = np.stack([values, pieces.middle]) - base[of]
    area = pieces.whole - base[of] * step
    summed = np.cumsum(area)
    before = summed - area - (summed - area)[starts][of]
    halfway = before + pieces.half - base[of] * step / 2
    total = before[last] + area[last]
    end = pieces.values[pieces.left[last] + 1] - base

    def nodes(fractions: np.ndarray, inner: np.ndarray, at_end: np.ndarray) -> Nodes:
        chosen = starts[:, None] + np.rint(fractions * size[:, None]).astype(int)[:, :-1]
        chosen = np.minimum(chosen, last[:, None])
        where = np.concatenate([s[0][chosen], np.ones((len(starts), 1))], axis=1)
        return where, np.concatenate([inner[chosen], at_end[:, None]], axis=1)

    off = np.abs(u - _through(nodes(_CUBIC, u[0], end), s, of))
    hidden = np.abs(np.stack([before, halfway]) - _through(nodes(_QUARTIC, before, total), s, of))
    low = np.minimum(np.minimum.reduceat(u.min(axis=0), starts), end)
    span = np.maximum(np.maximum.reduceat(u.max(axis=0), starts), end) - low
    rounding = 64 * np.finfo(float).eps * (np.abs(base) + span)
    drift = rounding * width + 64 * np.finfo(float).eps * np.abs(summed[last])
    near = np.maximum.reduceat(off.max(axis=0), starts) <= _APART * span + rounding
    level = np.maximum.reduceat(hidden.max(axis=0), starts) <= _AREA * rtol * span * width + drift
    return long & near & level


def _chebyshev(count: int) -> np.ndarray:
    return (1 - np.cos(np.pi * np.arange(count) / (count - 1))) / 2


_CUBIC, _QUARTIC = _chebyshev(4), _chebyshev(5)


def _through(at: Nodes, s: np.ndarray, of: np.ndarray) -> np.ndarray:
    """The polynomial of each stretch through some of its points, at all of them.

    It is asked for at `s`, of shape (2, n), each in the stretch numbered in `of`, of shape (n,).
    """
    (nodes, values), found = at, np.zeros_like(s)
    for q in range(nodes.shape[1]):
        part = values[of, q]
        for r in range(nodes.shape[1]):
            if r != q:
                apart = nodes[:, q] - nodes[:, r]
                apart = np.where(apart == 0, np.nan, apart)  # too few points: not smooth
                part = part * (s - nodes[of, r]) / apart[of]
        found += part
    return found
