"""From a model to draws.

Owes: where chains start, how they run, in which coordinates, by which adjoint, and what the draws
predict. In: a `Model` and settings. Out: draws, statistics of each transition, predictions.
"""
