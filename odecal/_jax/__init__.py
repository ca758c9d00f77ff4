"""What JAX is made to do, whatever for.

Owes: functions traced once, programs compiled side by side and sharded over devices, random keys,
which inputs a program depends on, where it runs. In: functions of arrays. Out:
programs. It knows no system.
"""
