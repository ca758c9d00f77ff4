"""The fused loop of explicit Runge–Kutta methods.

Owes: many solves and their sensitivities in one small program. In: a `Problem`. Out: the states at
the saved times, counts of steps, and for a backward pass the accepted steps.
"""
