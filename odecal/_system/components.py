"""The parts that a system is declared with."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpyro.distributions as dist

from odecal._errors import DeclarationError
from odecal._system.base import Component, is_number, is_prior, num_positional, shown
from odecal._system.inputs import Dosing
from odecal._system.varying import Pooling, Variation, Varying, as_centring, as_group, as_link
from odecal.centring import AbstractCentring


@dataclass(frozen=True, eq=False)
class State(Component):
    """A state of the system, integrated in time.

    Args:
        initial: its value at `t0`: a number, a prior (a NumPyro distribution), a function of
            the parameters, `lambda p: ...`, or `Parameter.varying(...)`, which has the unit and
            the dims of the state unless it gives its own. It is named like the state with a 0
            behind it (`p.hare0`; `p.x1_0` for a state `x1`); a prior makes it an unknown.
        unit: the unit.
        dims: named dimensions, for a vector-valued state.
        description: one line.
        dosing: how doses reach it; None for at once and whole.

    Raises:
        DeclarationError: if `initial` is none of these, or `dosing` none.
    """

    initial: Any
    unit: str = ""
    dims: Any = ()
    description: str = ""
    dosing: Any = field(default=None, kw_only=True)

    def check(self) -> None:
        """Refuse what cannot be declared."""
        initial, dosing = self.initial, Dosing() if self.dosing is None else self.dosing
        object.__setattr__(self, "dosing", dosing)
        known = is_number(initial) or is_prior(initial) or isinstance(initial, Varying)
        if not known and not callable(initial):
            raise DeclarationError(
                "State(initial=...) expects a number, a NumPyro distribution, a function of the "
                f"parameters or Parameter.varying(...). Got {shown(initial)}."
            )
        if not isinstance(dosing, Dosing):
            raise DeclarationError(
                f"State(dosing=...) expects Dosing(...), such as Dosing(lag=0.5). "
                f"Got {shown(dosing)}."
            )


@dataclass(frozen=True, eq=False)
class Parameter(Component):
    """An unknown of the system, with its prior.

    It is sampled on an unconstrained scale: a positive one by its logarithm, a bounded one through
    the bijection of its prior's support.

    Args:
        prior: a continuous NumPyro distribution. With `dims`, a scalar prior holds for each
            element independently.
        unit: the unit.
        dims: named dimensions, for a vector-valued parameter.
        description: one line.

    Raises:
        DeclarationError: if the prior is not a continuous distribution.
    """

    prior: Any
    unit: str = ""
    dims: Any = ()
    description: str = ""

    def check(self) -> None:
        """Refuse what cannot be declared."""
        if not is_prior(self.prior):
            raise DeclarationError(
                "Parameter(prior) expects a NumPyro distribution, such as "
                f"numpyro.distributions.LogNormal(0.0, 1.0). Got {shown(self.prior)}. "
                "For a known value use Constant(value)."
            )

    @classmethod
    def varying(
        cls,
        group: Any,
        *,
        location: Any,
        scale: Any,
        link: Any = "identity",
        centring: AbstractCentring | None = None,
        unit: str = "",
        dims: Any = (),
        description: str = "",
    ) -> "Varying":
        """A parameter with a value for each subject, plot or town, around what all share.

            link(value of a group) ~ Normal(location, scale)

        Inside the system's functions it is the value of the individual at hand. In results it has
        the dimension of its group, beside `<name>_location` and `<name>_scale`.

        [`unpooled`][odecal.Parameter.unpooled] and [`pooled`][odecal.Parameter.pooled] take the
        same arguments.

        Args:
            group: the column of the table that tells the groups apart, or a tuple of several.
            location: on the linked scale: a prior, a number, or a function of the parameters
                declared before it, which may use covariates:
                `lambda p: p.log_typical + 0.75 * jnp.log(p.weight / 70)`.
            scale: the standard deviation on the linked scale: a prior, or a positive number.
            link: "log" (positive), "logit" (between 0 and 1), "identity", or an object of
                `odecal.links`.
            centring: in which coordinates it is sampled, an object of `odecal.centring`; None is
                non-centred.
            unit: the unit.
            dims: named dimensions, for a vector-valued parameter.
            description: one line.

        Raises:
            DeclarationError: if something of this cannot be.
        """
        columns, way, coordinates = as_group(group), as_link(link), as_centring(centring)
        variation = Variation(columns, location, scale, way, Pooling.PARTIAL, coordinates)
        return Varying(variation, unit, dims, description)

    @classmethod
    def unpooled(cls, group: Any, **arguments: Any) -> "Varying":
        """A parameter with a value for each group, of which none tells anything of another.

        Each has the prior of the location, on the linked scale; where the location is no prior,
        `scale` must be a number, the spread of each around it.

        Args:
            group: as for [`varying`][odecal.Parameter.varying].
            **arguments: those of `varying`.
        """
        return cls.varying(group, **arguments).with_pooling(Pooling.NONE)

    @classmethod
    def pooled(cls, group: Any, **arguments: Any) -> "Varying":
        """A parameter with one value for all groups, or one that differs by covariates alone.

        Args:
            group: as for [`varying`][odecal.Parameter.varying].
            **arguments: those of `varying`, of which the scale is not used.
        """
        return cls.varying(group, **arguments).with_pooling(Pooling.COMPLETE)


@dataclass(frozen=True, eq=False)
class Constant(Component):
    """A known number: a population size, a dose, a volume.

    Args:
        value: the number, or an array of the shape of its `dims`.
        unit: the unit.
        dims: named dimensions, for a vector.
        description: one line.

    Raises:
        DeclarationError: if the value is not a finite number or array of numbers.
    """

    value: Any
    unit: str = ""
    dims: Any = ()
    description: str = ""

    def check(self) -> None:
        """Refuse what cannot be declared."""
        if not is_number(self.value):
            raise DeclarationError(
                "Constant(value) expects a finite number or an array of numbers. "
                f"Got {shown(self.value)}. For an unknown use Parameter(prior)."
            )


@dataclass(frozen=True, eq=False)
class Observable(Component):
    """What is measured, and its noise.

    Args:
        law: `lambda t, y, p: ...` gives the distribution of one value observed at time t, from the
            states y and the parameters p there. With a fourth argument, `lambda t, y, p, last:
            ...`, it may also use what changed since the previous observation of this observable:
            `last.t` is that time and `last.y` the states there (`t0` before the first one).
            Incidence is then `last.y.susceptible - y.susceptible`.
        interval: with a fourth argument, a fixed length of the interval in units of time, instead
            of the time since the previous observation: `last.t = t - interval`.
        lloq: the lower limit of quantification: of values below it only that is known (they are
            left-censored).
        uloq: the upper limit, likewise.
        unit: the unit.
        dims: named dimensions, for a vector-valued observable.
        description: one line.

    Raises:
        DeclarationError: if `law` is not such a function, or a limit is no number.
    """

    law: Callable[..., dist.Distribution]
    unit: str = ""
    dims: Any = ()
    description: str = ""
    interval: float | None = field(default=None, kw_only=True)
    lloq: float | None = field(default=None, kw_only=True)
    uloq: float | None = field(default=None, kw_only=True)

    def check(self) -> None:
        """Refuse what cannot be declared."""
        interval, lloq, uloq = self.interval, self.lloq, self.uloq
        arguments = num_positional(self.law)
        if arguments not in (3, 4):
            raise DeclarationError(
                "Observable(...) expects a function of (t, y, p) or (t, y, p, last) that returns "
                f"a NumPyro distribution. Got {shown(self.law)}"
                + (f" of {arguments} arguments." if arguments is not None else ".")
            )
        length: Any = interval
        positive = is_number(length) and np.ndim(length) == 0 and length > 0
        if interval is not None and (arguments != 4 or not positive):
            raise DeclarationError(
                "Observable(..., interval=...) expects a positive length of time, and a function "
                f"of (t, y, p, last). Got interval={interval!r} and {arguments} arguments."
            )
        for name, limit in (("lloq", lloq), ("uloq", uloq)):
            if limit is not None and not (is_number(limit) and np.ndim(limit) == 0):
                raise DeclarationError(
                    f"Observable(..., {name}=...) expects a number, a limit of quantification in "
                    f"the unit of the observable. Got {limit!r}."
                )
        if lloq is not None and uloq is not None and not lloq < uloq:
            raise DeclarationError(
                "Observable(..., lloq=..., uloq=...) expects the lower limit below the upper one. "
                f"Got {lloq!r} and {uloq!r}."
            )

    @property
    def over_interval(self) -> bool:
        """Whether it depends on what changed since the previous observation."""
        return num_positional(self.law) == 4


@dataclass(frozen=True, eq=False)
class Derived(Component):
    """A quantity computed from the parameters, reported with the posterior.

    Args:
        function: `lambda p: ...`.
        unit: the unit.
        dims: named dimensions, for a vector.
        description: one line.

    Raises:
        DeclarationError: if it is not a function of one argument.
    """

    function: Callable[[Any], Any]
    unit: str = ""
    dims: Any = ()
    description: str = ""

    def check(self) -> None:
        """Refuse what cannot be declared."""
        if num_positional(self.function) != 1:
            raise DeclarationError(
                f"Derived(...) expects a function of the parameters, `lambda p: ...`. "
                f"Got {shown(self.function)}."
            )
