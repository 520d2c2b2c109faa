"""How the gateway's costs grow with customers, accounts, jobs in the books and queued jobs.

Fills databases of different sizes with the rows that the gateway would have left, opens a whole
gateway on each (its own composition root, with an upstream that answers at once from memory) and
measures the same verbs on all of them in turns: what counts are ratios within one run.

`books` owns the rows, `house` the gateway, `verbs` what is measured, `pools` decisions among many
accounts, `counting` how, `run` the course, `report` the numbers and `plot` their picture. `plans`
finds out how a database would look for what the gateway asks it.
"""
