// Statement: one line for each job, top-up and correction, with the balance after it, and what can
// be spent now. Owns the filters and the download; every amount is the ledger's own.

import { call, pages, session } from "../api.js";
import { button, field, fill, h, select } from "../dom.js";
import { money, shortId, time } from "../format.js";
import { T } from "../texts.js";
import { attempt, bones, empty, pagedTable, save } from "../ui.js";

/** Show the page. */
export async function show(view, context) {
  if (session.operator) return operators(view, context);
  lines(view, "/v1/billing/statement", "/v1/billing/balance");
}

async function operators(view, context) {
  fill(view, bones(6));
  const found = await call("GET", "/admin/v1/customers", { query: { limit: 100 } });
  if (!found.data.length) return void fill(view, h("h1", {}, T.nav.statement), empty("customers", T.customers.emptyTitle, T.customers.emptyText));
  const wanted = context.rest[0] ?? found.data[0].id;
  const body = h("div");
  const chooser = field(T.words.customer, select(found.data.map((one) => [one.id, one.name]), wanted, (id) => { location.hash = `#/statement/${id}`; }));
  lines(body, `/admin/v1/customers/${wanted}/statement`, `/admin/v1/customers/${wanted}`, chooser);
  fill(view, body);
}

function lines(view, path, balancePath, chooser = null) {
  const chosen = { month: months()[0][0], kind: "" };
  const balance = h("dl", { class: "tiles" });
  const place = h("div");
  const columns = [
    { name: T.words.when, cell: (line) => time(line.created_at), nowrap: true },
    { name: T.words.what, cell: (line) => T.kinds[line.kind] ?? line.kind },
    { name: T.words.job, cell: (line) => (line.job_id ? h("a", { href: `#/jobs/${line.job_id}` }, shortId(line.job_id)) : null) },
    { name: T.words.channel, cell: (line) => line.channel },
    { name: T.words.size, cell: (line) => (line.size ? [line.size.replace("x", " × "), h("small", {}, ` ${T.plan(line.size_plan)}`)] : null) },
    { name: T.words.reason, cell: (line) => line.reason, cut: true },
    { name: T.words.amount, cell: (line) => h("span", { class: `amount ${line.amount_micros > 0 ? "plus" : line.amount_micros ? "minus" : "free"}` }, line.amount_micros ? money(line.amount_micros) : T.free), right: true },
    { name: T.words.balance, cell: (line) => money(line.balance_micros), right: true },
  ];
  const draw = () => {
    const source = filtered(pages(path, { month: chosen.month, limit: 200 }), (line) => !chosen.kind || line.kind === chosen.kind);
    fill(place, pagedTable(source, columns, { label: T.nav.statement, none: empty("statement", T.statement.emptyTitle, T.statement.emptyText) }));
  };
  fill(view, h("div", { class: "head" }, h("div", {}, h("h1", {}, T.nav.statement), h("p", { class: "lead" }, T.statement.lead)),
    h("div", { class: "actions" }, button(T.statement.csv, () => save(`${path}?format=csv${chosen.month ? `&month=${chosen.month}` : ""}`, "statement.csv"), { glyph: "download" }))),
  balance,
  h("div", { class: "filters", style: { "margin-top": "1rem" } }, chooser,
    field(T.statement.month, select([["", T.statement.always], ...months()], chosen.month, (value) => {
      chosen.month = value;
      draw();
    })),
    field(T.statement.kind, select([["", T.statement.everything], ...Object.entries(T.kinds)], "", (value) => {
      chosen.kind = value;
      draw();
    }))), place);
  draw();
  attempt(async () => {
    const found = await call("GET", balancePath);
    const now = found.balance ?? found;
    const tile = (name, value) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, money(value)));
    fill(balance, tile(T.statement.available, now.available_micros), tile(T.statement.held, now.held_micros), tile(T.statement.posted, now.posted_micros),
      now.credit_line_micros ? tile(T.statement.line, now.credit_line_micros) : null,
      (found.budgets ?? []).map((one) => tile(T.statement.budget(one.period), one.remaining_micros)));
  });
}

/** Newest lines last is how a ledger reads; a page that a filter empties takes the next one. */
function filtered(source, keep) {
  return {
    get more() { return source.more; },
    async next() {
      let found = [];
      do found = (await source.next()).filter(keep);
      while (!found.length && source.more);
      return found;
    },
  };
}

function months() {
  const now = new Date();
  return Array.from({ length: 12 }, (_, back) => {
    const text = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back, 1)).toISOString().slice(0, 7);
    return [text, text];
  });
}
