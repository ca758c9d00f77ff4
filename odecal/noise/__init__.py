"""Noise models: how an observation scatters around what the system predicts.

Each is a NumPyro distribution in the modeller's terms (a predicted median or mean, then the
spread). They survive predictions that solver error has made slightly negative: a prediction below
a tiny floor counts as the floor. Any other NumPyro distribution can be returned by an observable
just as well.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
