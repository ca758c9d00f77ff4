"""A run as data, and on the disk.

Owes: that a run can be stopped, found again and gone on with, and that a file is whole and is not
trusted. In: plans, states, draws. Out: journals, netCDF files, and runs read back from them.
"""
