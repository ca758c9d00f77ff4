from ._backward import Backward as Backward
from ._base import AbstractInterpolation as AbstractInterpolation
from ._constant import Constant as Constant
from ._hermite import Hermite as Hermite
from ._linear import Linear as Linear

__all__: list[str]
