"""Draws into a tree, a table, a verdict, a picture.

Owes: named dimensions, units and provenance for all that is drawn, and every reason to doubt it.
In: a finished run. Out: an `xarray.DataTree`, a summary, sentences, figures.
"""
