"""What the gateway costs, as ratios within one run on one machine.

Starts the gateway as customers meet it, a mock upstream and a bare relay as processes of their own
on loopback, sends all of them the same orders in turn, and relates the CPU time that each took.
Speaks HTTP to the gateway and imports nothing of it.

`run` owns the course, `stage` the processes, `load` the orders, `meter` the measuring, `result` the
arithmetic; `mock` and `relay` are programs, `naive` is the baseline inside one process.
"""
