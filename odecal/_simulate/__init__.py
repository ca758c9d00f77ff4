"""Tables that a system would give.

Owes: a table as a laboratory would report it, of true values that are known. In: a system and a
design. Out: a table that can be calibrated to, and the values it was made with.
"""
