"""Tables as they come, into an `Experiment`.

Owes: that every number is the one that stands in the table, or is refused with its row and column.
In: tidy tables, NONMEM's, xarray datasets, tables of doses. Out: an `Experiment` of plain arrays.
"""
