"""The chain in front of a gateway: which hop cuts a silent connection, when, and what else it does.

`wire` makes one request and tells how it ended, `silence` finds how long one may be silent, `hops`
knows proxies by what they say, `manners` looks at bodies, heads, streams and TLS, `verdicts` puts
it into words. All of it speaks HTTP/1.1 to addresses that the operator gave, and nothing else.
"""
