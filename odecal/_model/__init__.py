"""The posterior: a NumPyro model and a log density.

Owes: the joint density of parameters and data, with its gradient, and what would be observed. In: a
system and an `Experiment`. Out: a `Model`, and its log density of one flat vector.
"""
