from ._additive_proportional import AdditiveProportional as AdditiveProportional
from ._log_normal import LogNormal as LogNormal
from ._negative_binomial import NegativeBinomial as NegativeBinomial
from ._normal import Normal as Normal
from ._poisson import Poisson as Poisson
from ._student_t import StudentT as StudentT

__all__: list[str]
