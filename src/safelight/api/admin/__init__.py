"""The admin API: what operators see and do over HTTP.

Owns the table of its routes, each with the least role that may call it. `access` says who calls;
what is done is `administration`'s business.
"""

from __future__ import annotations

from safelight.admin_keys import Role
from safelight.api.admin import accounts, batches, customers, house, jobs, keys, pictures, series
from safelight.api.admin.access import Handler

_SEES, _RUNS = Role.VIEWER, Role.OPERATOR

ADMIN_ROUTES: tuple[tuple[str, str, Role, Handler], ...] = (
    ("GET", "/admin/v1/customers", _SEES, customers.customers),
    ("POST", "/admin/v1/customers", _RUNS, customers.create),
    ("GET", "/admin/v1/customers/{id}", _SEES, customers.customer),
    ("PATCH", "/admin/v1/customers/{id}", _RUNS, customers.rename),
    ("POST", "/admin/v1/customers/{id}/freeze", _RUNS, customers.freeze),
    ("POST", "/admin/v1/customers/{id}/unfreeze", _RUNS, customers.unfreeze),
    ("POST", "/admin/v1/customers/{id}/credit", _RUNS, customers.credit),
    ("PUT", "/admin/v1/customers/{id}/credit-line", _RUNS, customers.credit_line),
    ("POST", "/admin/v1/customers/{id}/keys", _RUNS, keys.create),
    ("GET", "/admin/v1/customers/{id}/statement", _SEES, customers.statement),
    ("GET", "/admin/v1/keys", _SEES, keys.keys),
    ("PATCH", "/admin/v1/keys/{id}", _RUNS, keys.change),
    ("POST", "/admin/v1/keys/{id}/revoke", _RUNS, keys.revoke),
    ("GET", "/admin/v1/jobs", _SEES, jobs.jobs),
    ("GET", "/admin/v1/jobs/{id}", _SEES, jobs.job),
    ("GET", "/admin/v1/jobs/{id}/receipt", _SEES, jobs.receipt),
    ("POST", "/admin/v1/jobs/{id}/cancel", _RUNS, jobs.cancel),
    ("POST", "/admin/v1/refunds", _RUNS, jobs.refund),
    ("GET", "/admin/v1/batches", _SEES, batches.batches),
    ("GET", "/admin/v1/batches/{id}", _SEES, batches.batch),
    ("GET", "/admin/v1/images", _SEES, pictures.images),
    ("POST", "/admin/v1/images/{id}/pin", _RUNS, pictures.pin),
    ("POST", "/admin/v1/images/{id}/unpin", _RUNS, pictures.unpin),
    ("DELETE", "/admin/v1/images/{id}", _RUNS, pictures.delete),
    ("GET", "/admin/v1/accounts", _SEES, accounts.accounts),
    ("POST", "/admin/v1/accounts/{name}/pause", _RUNS, accounts.pause),
    ("POST", "/admin/v1/accounts/{name}/resume", _RUNS, accounts.resume),
    ("GET", "/admin/v1/channels", _SEES, accounts.channels),
    ("GET", "/admin/v1/sizes", _SEES, accounts.sizes),
    ("GET", "/admin/v1/audit", _SEES, house.audit),
    ("GET", "/admin/v1/alerts", _SEES, house.alerts),
    ("GET", "/admin/v1/verification", _SEES, house.verification),
    ("POST", "/admin/v1/verification", _RUNS, house.verify),
    ("GET", "/admin/v1/system", _SEES, house.system),
    ("GET", "/admin/v1/series", _SEES, series.series),
    ("GET", "/admin/v1/events", _SEES, series.events),
)
"""Method, path, the least role, and the handler."""
