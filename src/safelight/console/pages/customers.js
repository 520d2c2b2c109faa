// Customers and keys: who pays and what they may spend. Owns the forms; the server checks every role
// and amount again.

import * as admin from "../admin.js";
import { session } from "../api.js";
import { button, field, fill, h } from "../dom.js";
import { money, parseMoney, time } from "../format.js";
import { T } from "../texts.js";
import { attempt, badge, bones, confirm, dialog, empty, failureNote, formDialog, pagedTable, table, toast } from "../ui.js";

const PERIODS = ["day", "month", "total"];
const may = () => session.operator.role !== "viewer";

/** Show the list, or one customer. */
export function show(view, context) {
  return context.rest[0] ? one(view, context.rest[0]) : list(view);
}

function list(view) {
  const place = h("div");
  let pause = 0;
  const draw = (search = "") => fill(place, pagedTable(admin.customers(search), [
    { name: T.words.name, cell: (row) => h("b", {}, row.name) },
    { name: T.words.state, cell: (row) => badge(row.frozen ? "frozen" : "active") },
    { name: T.statement.available, cell: (row) => money(row.balance.available_micros), right: true },
    { name: T.statement.held, cell: (row) => money(row.balance.held_micros), right: true },
    { name: T.customers.line, cell: (row) => money(row.balance.credit_line_micros), right: true },
    { name: T.customers.keys, cell: (row) => String(row.keys ?? "–"), right: true },
    { name: T.words.created, cell: (row) => time(row.created_at), nowrap: true },
  ], {
    label: T.nav.customers, open: (row) => { location.hash = `#/customers/${row.id}`; },
    none: search ? empty("search", T.customers.noneTitle, T.customers.noneText) : empty("customers", T.customers.emptyTitle, T.customers.emptyText),
  }));
  const search = h("input", { type: "search", placeholder: T.customers.searchPlaceholder, on: { input: () => {
    clearTimeout(pause);
    pause = setTimeout(() => draw(search.value.trim()), 300);
  } } });
  fill(view, h("div", { class: "head" }, h("div", {}, h("h1", {}, T.nav.customers), h("p", { class: "lead" }, T.customers.lead)),
    may() ? h("div", { class: "actions" }, button(T.customers.create, create, { glyph: "plus", kind: "primary" })) : null),
  h("div", { class: "filters" }, field(T.customers.search, search)), place);
  draw();
  return () => clearTimeout(pause);
}

function amount(text) {
  const micros = parseMoney(text);
  if (micros === null) throw new Error(T.customers.badAmount);
  return micros;
}

async function create() {
  const found = await formDialog(T.customers.create, {
    fields: h("div", { class: "fields" },
      field(T.customers.name, h("input", { name: "name", required: true, maxlength: 64 })),
      field(T.customers.credit, h("input", { name: "credit", inputmode: "decimal", value: "10.00" }))),
    yes: T.customers.create,
    send: async (form) => {
      const made = await admin.createCustomer(form.get("name").trim(), amount(form.get("credit") || "0"));
      const key = made.key ?? (await admin.createKey(made.id, made.name)).key;
      return { id: made.id, key };
    },
  });
  if (!found) return;
  await showKey(found.key);
  location.hash = `#/customers/${found.id}`;
}

function showKey(key) {
  return dialog(T.customers.keyTitle, (close) => [
    h("p", {}, T.customers.keyText),
    h("div", { class: "secret" }, h("span", { class: "grow", data: { secret: "" } }, key), button(T.copy, async () => {
      // Without TLS browsers lend no clipboard; the text can be marked and copied by hand.
      await navigator.clipboard?.writeText(key).then(() => toast(T.copied), () => {});
    })),
    h("div", { class: "foot" }, button(T.close, () => close(), { kind: "primary" })),
  ]);
}

async function one(view, id) {
  fill(view, bones(8));
  let who;
  let keys;
  try {
    [who, keys] = await Promise.all([admin.customer(id), admin.keys(id)]);
  } catch (problem) {
    return void fill(view, failureNote(problem), h("p", {}, h("a", { href: "#/customers" }, T.customers.back)));
  }
  const again = () => one(view, id);
  const { balance } = who;
  const tile = (name, value) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, money(value)));
  fill(view,
    h("div", { class: "head" }, h("div", {}, h("a", { href: "#/customers" }, T.customers.back), h("h1", {}, who.name)),
      badge(who.frozen ? "frozen" : "active"),
      h("div", { class: "actions" },
        h("a", { class: "button", href: `#/statement/${id}` }, T.customers.statement), h("a", { class: "button", href: `#/jobs?customer=${id}` }, T.customers.jobs),
        may() ? money_(who, again) : null)),
    who.frozen ? h("p", { class: "note bad" }, who.frozen.reason ?? T.states.frozen) : null,
    h("div", { class: "stack" },
      h("dl", { class: "tiles" }, tile(T.statement.available, balance.available_micros), tile(T.statement.held, balance.held_micros),
        tile(T.statement.posted, balance.posted_micros), tile(T.statement.line, balance.credit_line_micros)),
      h("div", { class: "row" }, h("h2", { class: "grow" }, T.customers.keys), may() ? button(T.customers.newKey, () => newKey(id, again), { glyph: "plus" }) : null),
      table(keyColumns(again), keys.data, { label: T.customers.keys }),
      h("h2", {}, T.customers.audit), auditTable(id)));
}

function money_(who, again) {
  return [
    button(T.customers.topUp, async () => {
      const done = await formDialog(T.customers.topUp, {
        fields: h("div", { class: "fields" }, field(T.customers.topUpAmount, h("input", { name: "amount", required: true, inputmode: "decimal" })),
          field(T.customers.topUpReason, h("input", { name: "reason", required: true, maxlength: 200, value: "top-up" }))),
        yes: T.customers.topUp, send: (form) => admin.topUp(who.id, amount(form.get("amount")), form.get("reason")),
      });
      if (done) toast(T.customers.toppedUp), again();
    }, { kind: "primary" }),
    button(T.customers.line, async () => {
      const done = await formDialog(T.customers.line, {
        intro: T.customers.lineText, fields: field(T.customers.topUpAmount, h("input", { name: "amount", required: true, inputmode: "decimal", value: "0" })),
        yes: T.save, send: (form) => admin.setLine(who.id, amount(form.get("amount"))),
      });
      if (done) toast(T.customers.lineSet), again();
    }),
    button(who.frozen ? T.customers.unfreeze : T.customers.freeze, async () => {
      const act = who.frozen ? admin.unfreeze : admin.freeze;
      const done = await formDialog(who.frozen ? T.customers.unfreeze : T.customers.freeze, {
        fields: field(T.words.reason, h("input", { name: "reason", required: true, maxlength: 200 })),
        yes: who.frozen ? T.customers.unfreeze : T.customers.freeze, send: (form) => act(who.id, form.get("reason")),
      });
      if (done) again();
    }, { kind: who.frozen ? "" : "danger" }),
  ];
}

async function newKey(id, again) {
  const made = await formDialog(T.customers.newKey, {
    fields: field(T.customers.keyName, h("input", { name: "name", required: true, maxlength: 64 })),
    yes: T.customers.newKey, send: (form) => admin.createKey(id, form.get("name")),
  });
  if (!made) return;
  await showKey(made.key);
  again();
}

function keyColumns(again) {
  return [
    { name: T.words.key, cell: (key) => [h("b", {}, key.name || "–"), h("small", {}, h("br"), h("code", {}, key.id))] },
    { name: T.words.state, cell: (key) => badge(key.revoked_at ? "revoked" : "active") },
    { name: T.customers.budgets, cell: (key) => budgets(key) },
    { name: T.words.created, cell: (key) => time(key.created_at), nowrap: true },
    { name: "", cell: (key) => (may() && !key.revoked_at ? h("div", { class: "row" }, button(T.customers.budgets, () => setBudgets(key, again)), button(T.customers.revoke, () => revoke(key, again), { kind: "danger" })) : null), right: true },
  ];
}

function budgets(key) {
  if (!key.budgets?.length) return "–";
  return key.budgets.map((one) => h("div", {}, `${money(one.used_micros)} / ${money(one.limit_micros)} `, h("small", {}, one.period)));
}

async function setBudgets(key, again) {
  const now = Object.fromEntries((key.budgets ?? []).map((one) => [one.period, money(one.limit_micros).slice(1).replaceAll(",", "")]));
  const done = await formDialog(T.customers.budgets, {
    intro: T.customers.budgetText,
    fields: h("div", { class: "fields" }, PERIODS.map((period) => field(T.customers[period], h("input", { name: period, inputmode: "decimal", value: now[period] ?? "" })))),
    yes: T.save,
    send: (form) => admin.setBudgets(key.id, Object.fromEntries(PERIODS.map((period) => [period, form.get(period) ? amount(form.get(period)) : null]))),
  });
  if (done) toast(T.customers.budgetSet), again();
}

async function revoke(key, again) {
  if (!await confirm(T.customers.revokeTitle, T.customers.revokeText, T.customers.revoke)) return;
  await attempt(() => admin.revokeKey(key.id));
  again();
}

/** What operators did to a subject, or to anything. */
export function auditTable(subject = null) {
  return pagedTable(admin.audit(subject), [
    { name: T.words.when, cell: (act) => time(act.at), nowrap: true },
    { name: T.words.who, cell: (act) => act.actor_name || act.actor },
    { name: T.words.what, cell: (act) => act.act },
    { name: T.words.subject, cell: (act) => act.subject, cut: true },
    { name: T.words.outcome, cell: (act) => [act.before, act.after].filter(Boolean).join(" → ") || act.outcome, cut: true },
    { name: T.words.from, cell: (act) => act.address || "–" },
  ], { label: T.customers.audit, none: h("p", { class: "hint" }, T.customers.auditEmpty) });
}
