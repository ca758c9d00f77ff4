"""Mistakes in what varies between groups, found when the class is made."""

from typing import Any

import numpy as np

from odecal._errors import DeclarationError, listed, suggestion
from odecal._system.base import is_number
from odecal._system.declaration import Declaration
from odecal._system.varying import Correlation, Pooling


def check_groups(declaration: Declaration) -> None:
    """Check what is correlated, and the names that varying parameters take.

    Raises:
        DeclarationError: at the first thing that does not fit.
    """
    taken: dict[str, str] = {}
    for name, correlation in declaration.of(Correlation).items():
        _check_correlation(declaration, name, correlation, taken)
    for name, parameter in declaration.varying.items():
        for part in ("location", "scale"):
            _check_level(declaration, name, part, getattr(parameter.variation, part))
        for part in ("location", "scale", "raw"):
            _check_free(declaration, f"{name}_{part}", name)
    for name in declaration.of(Correlation):
        for part in ("cholesky", "raw"):
            _check_free(declaration, f"{name}_{part}", name)
    for name, parameter in declaration.varying.items():
        _check_free(declaration, "_".join(parameter.variation.group), name, "dimension")


def _check_level(declaration: Declaration, name: str, part: str, value: Any) -> None:
    """Refuse a location or a scale whose numbers are neither one nor one an element."""
    shape = declaration.shape(name)
    if is_number(value) and np.shape(value) not in ((), shape):
        raise DeclarationError(
            f"The {part} of {declaration.name}.{name} has the wrong shape. Expected one number"
            f"{f', or {shape} of them, as by its dims' if shape else ''}. Got {np.shape(value)}. "
            "Give one number; what differs between groups is a covariate."
        )


def _check_correlation(
    declaration: Declaration, name: str, correlation: Correlation, taken: dict[str, str]
) -> None:
    where = f"{declaration.name}.{name}"
    varying = declaration.varying
    first = correlation.parameters[0]
    for member in correlation.parameters:
        if member not in varying:
            raise DeclarationError(
                f"{where} names `{member}`, which is no varying parameter. Expected some of: "
                f"{listed(varying)}." + suggestion(member, varying)
            )
        if taken.setdefault(member, name) != name:
            raise DeclarationError(
                f"`{member}` is in two correlations, {taken[member]} and {name}. Expected one that "
                "names all parameters that are correlated with it."
            )
        variation = varying[member].variation
        if variation.group != varying[first].variation.group:
            raise DeclarationError(
                f"{where} correlates `{first}` and `{member}`, which vary over different groups "
                f"({listed(varying[first].variation.group)}; {listed(variation.group)}). Expected "
                "parameters of one group."
            )
        if variation.pooling is not Pooling.PARTIAL:
            raise DeclarationError(
                f"{where} names `{member}`, which is not partially pooled. Expected parameters "
                "made by Parameter.varying(...). Leave the correlation out by "
                f"{declaration.name}({name}=None)."
            )
        if declaration.shape(member):
            raise DeclarationError(
                f"{where} names `{member}`, which has dims. Expected parameters without."
            )


def _check_free(declaration: Declaration, taken: str, name: str, what: str = "quantity") -> None:
    """Refuse a part whose name is needed for something that another part brings."""
    if taken in declaration.components:
        raise DeclarationError(
            f"{declaration.name}.{taken} has the name of a {what} that `{name}` brings into "
            "results. Expected different names. Rename one of them."
        )
