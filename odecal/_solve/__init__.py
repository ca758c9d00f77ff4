"""One initial value problem, as a value.

Owes: the trajectory of one individual, with its inputs, doses, events and steady states. In: a
declaration, parameters, what the individual is given. Out: a `Trajectory`. Only it calls Diffrax.
"""
