"""The implicit solver for stiff systems."""

import diffrax
import optimistix


def implicit_solver() -> diffrax.Kvaerno5:
    """An implicit solver for stiff systems, whose equations Newton's method solves.

    It is the method of order 5 of Kværnø (2004), https://doi.org/10.1023/b:bitn.0000046811.70614.38,
    with the tolerances of the steps for Newton's method too. That converges so fast that its last
    correction, which is within them, leaves an error far below them.

    Returns:
        A `diffrax.Kvaerno5`.
    """
    return diffrax.Kvaerno5(root_finder=diffrax.with_stepsize_controller_tols(optimistix.Newton)())
