"""What the gateway costs, as ratios within one run on one machine.

Starts the gateway as customers meet it, a mock upstream, a bare relay and the peers that are
installed as processes of their own on loopback, sends all of them the same orders in turn, and
relates the CPU time and memory that each took. Speaks HTTP to the gateway and imports nothing of
it.

`workloads` says what is asked, `contenders` who is asked and how each is configured, `processes`
runs them; `run` owns the course and `turns` one contender's part of it; `orders` and `load` are the
client, `meter` reads the kernel; `result` is the arithmetic, `bars` the promises, `tables` and
`plots` what people see. `mock` and `relay` are programs, `naive` is the baseline in one process.
"""
