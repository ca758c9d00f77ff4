"""The command line: thin commands over the library.

Owes: words into objects, one clear line where something is wrong, and an end in good order. In:
arguments and signals. Out: what is printed, and an exit status.
"""
