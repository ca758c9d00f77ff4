"""What a scientist declares.

Owes: the parts of a system, their checks, and the structure of its priors. In: a class, its
overrides. Out: a `Declaration`, all that the rooms above read. It knows no data and no solver.
"""
