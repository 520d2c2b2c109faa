"""What the pool does on its accounts' bad days, beside the LiteLLM proxy, in one run.

Starts the fault upstream, one contender after the other and a crowd of stock `openai` clients as
processes of their own on loopback. Contenders and clients live in scaled time, so that half an
hour of theirs takes a minute or two; the upstream keeps the same time by itself. What is reported
comes from two witnesses that no contender can touch: what the clients saw and what the upstream
noted.

`scenarios` owns what is played, `contenders` how each contender is set up, `world` the upstream's
document and books, `caller` (a program) the clients, `scaled` (a program) the time, `processes`
the children, `measures` the arithmetic, `run` the course and `report` its form.
"""
