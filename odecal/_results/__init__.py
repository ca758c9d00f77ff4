"""Draws into a tree, a table, a picture.

Owes: named dimensions, units and provenance for all that is drawn, and what speaks against it. In:
a finished run. Out: an `xarray.DataTree`, a summary, figures.
"""
