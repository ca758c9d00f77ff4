"""Gradient strategies for Diffrax solves.

Each is an object with a method `diffeqsolve` whose arguments and result are Diffrax's own, so that
a plain Diffrax user can use this package alone:

    solution = odecal.adjoints.Forward().diffeqsolve(terms, solver, t0, t1, dt0, y0, args, ...)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
