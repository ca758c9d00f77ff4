"""The fused loop of explicit Runge-Kutta methods.

Owes: many solves and their sensitivities in one small program. In: a `Problem`. Out: the states at
the times to keep, the steps for a way back, and counts.
"""
