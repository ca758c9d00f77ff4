"""Ready-made systems, each a file that shows how to write one, with its data."""

import lazy_loader

# A system is imported, and its declaration checked, when it is first used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
