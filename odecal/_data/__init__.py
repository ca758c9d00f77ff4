"""Tables as they come, into an `Experiment`.

Owes: that every number is the one that stands in the table, or is refused with its row and column.
In: tidy tables, NONMEM's, xarray datasets, tables of doses. Out: an `Experiment` of plain arrays.

`observations.read_experiment` is the door. A table goes down this list; its rows are
numbered from 0:

    input                  frame (a data frame or a path: csv, compressed), datasets (xarray)
    roles of columns       columns
    values of cells        numbers, times, labels, censored
    individuals of rows    individuals
    kinds of tables        tidy; nonmem (nonmem_individuals, nonmem_events, nonmem_observations)
    doses                  dose_tables (by themselves), dose_records, dose_checks
    parsed                 parsed: every kind gives a `ParsedTable`
    aligned                series, experiment; serialise is for files

Another kind of table is a file that gives a `ParsedTable`, and a case in `observations`.
"""
