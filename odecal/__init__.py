"""odecal: Bayesian calibration of ordinary differential equations.

Declare a system as a class (`System`, `State`, `Parameter`, `Observable`, ...), hand over a table
of observations, and get a posterior: `calibrate(system, observations)`.
"""

from typing import Any

import lazy_loader

# A public name is imported when it is first used, so that `odecal --help` does not wait for JAX.
# The names, and where they are, stand in `__init__.pyi`, which type checkers and editors read.
_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _attribute(name)
