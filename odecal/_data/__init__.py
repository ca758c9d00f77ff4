"""Tables as they come, into an `Experiment`.

Owes: that every number is the one that stands in the table, or is refused with its row and column.
In: tidy tables, NONMEM's, xarray datasets, tables of doses. Out: an `Experiment` of plain arrays.

`observations.read_experiment` is the door. From there a table, whose index numbers its
rows from 0, goes down this list:

    as it comes            frame (a data frame or a path: csv, compressed), datasets (xarray)
    what its columns are   columns
    what its cells say     numbers, times, labels, censored
    whose its rows are     individuals
    by its kind            tidy; nonmem (nonmem_individuals, nonmem_events, nonmem_observations)
    its doses              dose_tables (by themselves), dose_records, dose_checks
    where the kinds meet   parsed: every kind gives a `ParsedTable`
    ordered and aligned    series, experiment; serialise is for files

Another kind of table is a file that gives a `ParsedTable`, and a case in `observations`.
"""
