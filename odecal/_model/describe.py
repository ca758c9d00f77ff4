"""A model as a table of plain text."""

from collections.abc import Mapping
from typing import Any

from odecal._data.experiment import Experiment
from odecal._system.describe import show_prior, table_of
from odecal._system.hierarchy import Hierarchy


def describe(experiment: Experiment, hierarchy: Hierarchy, transforms: Mapping[str, Any]) -> str:
    """A table of what a model samples, in which coordinates, and what it is conditioned on."""
    who, dim = len(experiment.individuals), experiment.individuals.dim
    values = sum(int(s.present.sum()) for s in experiment.series.values())
    of_whom = f" of {who} ({dim})" if dim else ""
    doses = "" if experiment.doses is None else f", {len(experiment.doses)} doses"
    rows = [
        (
            "site",
            f"{name}[{', '.join(map(str, site.shape))}]" if site.shape else name,
            f"~ {hierarchy.prior_in_words(name) or show_prior(site.prior)}",
            _reparameterised(transforms[name]),
        )
        for name, site in hierarchy.sites.items()
    ]
    title = f"Model of {hierarchy.declaration.name}: {values} values{of_whom}{doses}"
    return "\n".join([title, *table_of(rows)])


# How a bijection to the whole line is called.
_BIJECTIONS = {
    "IdentityTransform": "as it is",
    "ExpTransform": "by its logarithm",
    "SigmoidTransform": "by its logit",
    "CorrCholeskyTransform": "by canonical partial correlations of its Cholesky factor",
    "LowerCholeskyTransform": "by its Cholesky factor",
    "StickBreakingTransform": "by stick breaking",
    "OrderedTransform": "by logarithms of its differences",
}


def _reparameterised(transform: Any) -> str:
    """In which coordinates a site is sampled, in words."""
    parts = getattr(transform, "parts", [transform])
    named = [type(part).__name__ for part in parts]
    while named and named[-1] in ("AffineTransform", "IndependentTransform") and len(named) > 1:
        named.pop()  # a shift of bounds
    return f"sampled {_BIJECTIONS.get(named[0], f'through {named[0]}')}"
