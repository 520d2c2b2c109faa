// The operator's routes, each as one function (docs/admin-api.md). Owns their addresses and bodies;
// pages own what they show. No page but those of operators loads this.

import { call, pages } from "./api.js";

const BASE = "/admin/v1";
const at = (...parts) => [BASE, ...parts.map(encodeURIComponent)].join("/");

export const accounts = () => call("GET", at("accounts"));
export const pause = (name, reason) => call("POST", at("accounts", name, "pause"), { body: { reason } });
export const resume = (name) => call("POST", at("accounts", name, "resume"));

export const customers = (search) => pages(at("customers"), { search, limit: 50 });
export const customer = (id) => call("GET", at("customers", id));
export const createCustomer = (name, creditMicros) => call("POST", at("customers"), { body: { name, credit_micros: creditMicros } });
export const freeze = (id, reason) => call("POST", at("customers", id, "freeze"), { body: { reason } });
export const unfreeze = (id, reason) => call("POST", at("customers", id, "unfreeze"), { body: { reason } });
export const topUp = (id, amountMicros, reason) => call("POST", at("customers", id, "credit"), { body: { amount_micros: amountMicros, reason } });
export const setLine = (id, lineMicros) => call("PUT", at("customers", id, "credit-line"), { body: { credit_line_micros: lineMicros } });

export const keys = (customerId) => call("GET", at("keys"), { query: { customer: customerId, limit: 100 } });
export const createKey = (customerId, name) => call("POST", at("customers", customerId, "keys"), { body: { name } });
export const setBudgets = (id, budgets) => call("PATCH", at("keys", id), { body: { budgets } });
export const revokeKey = (id) => call("POST", at("keys", id, "revoke"));

export const audit = (subject) => pages(at("audit"), { subject, limit: 30 });
export const alerts = () => call("GET", at("alerts"));
export const verification = () => call("GET", at("verification"));
export const verify = () => call("POST", at("verification"));
export const system = () => call("GET", at("system"));
export const sessions = () => call("GET", at("sessions"));
export const endSession = (id) => call("DELETE", at("sessions", id));
export const series = (step, from, to) => call("GET", at("series"), { query: { step, from, to } });

/** Be told when something changes; `on()` is called at most twice a second. Returns a function that stops it. */
export function watch(on, kinds) {
  const source = new EventSource(at("events"));
  let due = null;
  const soon = () => {
    due ??= setTimeout(() => {
      due = null;
      on();
    }, 500);
  };
  for (const kind of kinds) source.addEventListener(kind, soon);
  return () => {
    clearTimeout(due);
    source.close();
  };
}
