"""The fault upstream: a scripted images API that misbehaves on request and remembers what it sold.

`server.py` keeps the books, `script.py` decides, `replies.py` writes the answers, `errors.py` holds
the refusals, `pictures.py` makes pictures. It imports nothing of safelight: it is the independent
witness of every money check.
"""
