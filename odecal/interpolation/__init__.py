"""Interpolations: what an input is between its samples. Outside them it keeps the nearest."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
