"""The fault upstream: an images API that misbehaves by plan and remembers what it sold.

`scenario.py` is the plan, `server.py` the API, `checks.py` the vendor's own refusals, `limits.py`
its limits, `timing.py` vendor time, latency and scheduled conditions, `script.py` chooses what
happens to each request, `replies.py` writes the answers, `errors.py` holds the refusals,
`pictures.py` makes pictures, `books.py` keeps the record and `summary.py` counts it. It imports
nothing of the server: it is the independent witness of every money check.

Times are *vendor seconds* unless a name says otherwise: `speed` of them pass in one real second.
"""
