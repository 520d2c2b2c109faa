"""The admin API: what operators see and do over HTTP.

`access` says who may, `sessions` lets them in.
"""
