// System and alerts: what is raised, whether the books fit, what runs, who is signed in, what was done.

import * as admin from "../admin.js";
import { session } from "../api.js";
import { button, fill, h } from "../dom.js";
import { bytes, duration, time } from "../format.js";
import { T } from "../texts.js";
import { attempt, badge, bones, empty, failureNote, table } from "../ui.js";
import { auditTable } from "./customers.js";

const LOOK_MS = 10_000;

/** Show the page. */
export function show(view) {
  const alerts = h("div", {}, bones(2));
  const books = h("div", {}, bones(2));
  const about = h("div", {}, bones(5));
  const signed = h("div", {}, bones(3));
  fill(view, h("div", { class: "head" }, h("div", {}, h("h1", {}, T.nav.system), h("p", { class: "lead" }, T.system.lead))),
    h("div", { class: "stack" },
      h("section", { class: "stack" }, h("h2", {}, T.system.alerts), alerts),
      h("div", { class: "split" }, h("section", { class: "card stack" }, h("h2", {}, T.system.verification), books), h("section", { class: "card stack" }, h("h2", {}, T.system.about), about)),
      h("section", { class: "stack" }, h("h2", {}, T.system.sessions), signed),
      h("section", { class: "stack" }, h("h2", {}, T.system.audit), auditTable())));
  const look = () => {
    into(alerts, admin.alerts, drawAlerts);
    into(about, admin.system, drawSystem);
  };
  look();
  into(books, admin.verification, drawBooks);
  into(signed, admin.sessions, drawSessions);
  const timer = setInterval(() => document.hidden || look(), LOOK_MS);
  const stop = admin.watch(look, ["alert"]);
  return () => {
    clearInterval(timer);
    stop();
  };
}

async function into(place, read, draw) {
  try {
    fill(place, draw(await read(), () => into(place, read, draw), place));
  } catch (problem) {
    fill(place, failureNote(problem, () => into(place, read, draw)));
  }
}

function drawAlerts(found) {
  if (!found.data.length) return empty("check", T.states.ok, T.system.noAlerts);
  return table([
    { name: T.words.state, cell: (one) => badge(one.resolved_at ? "resolved" : "raised") },
    { name: T.words.what, cell: (one) => h("b", {}, one.name ?? one.kind ?? one.rule) },
    { name: T.words.subject, cell: (one) => one.subject || "–" },
    { name: T.words.reason, cell: (one) => one.message ?? one.detail ?? "" },
    { name: T.words.when, cell: (one) => time(one.raised_at), nowrap: true },
  ], found.data, { label: T.system.alerts });
}

function drawBooks(found, again, place) {
  const findings = found?.findings ?? [];
  const run = button(T.system.verify, () => attempt(async () => {
    fill(place, h("p", {}, T.system.verifying));
    await admin.verify();
  }).then(again));
  return h("div", { class: "stack" },
    findings.length ? h("div", { class: "note bad" }, T.system.findings(findings.length), h("ul", {}, findings.map((one) => h("li", {}, typeof one === "string" ? one : one.text ?? one.message)))) : h("p", { class: "note good" }, T.system.verified),
    found?.ended_at ? h("p", { class: "hint" }, time(found.ended_at)) : null,
    session.operator.role === "viewer" ? null : h("div", { class: "row" }, run));
}

/** Whatever the server tells of itself, in its order: names become words, units stay what they say. */
function drawSystem(found) {
  const rows = [];
  const walk = (name, value) => {
    if (value === null || value === undefined || name === "object") return;
    if (Array.isArray(value)) rows.push([name, value.length && typeof value[0] === "object" ? String(value.length) : value.join(", ")]);
    else if (typeof value === "object") for (const [key, inner] of Object.entries(value)) walk(`${name} ${key}`, inner);
    else rows.push([name, shown(name, value)]);
  };
  for (const [name, value] of Object.entries(found)) walk(name, value);
  return h("dl", { class: "facts" }, rows.map(([name, value]) => [h("dt", {}, words(name)), h("dd", {}, value)]));
}

function words(name) {
  return name.replace(/_(at|s|ms|bytes)$/, "").replace(" folders ", " ").replaceAll("_", " ");
}

function shown(name, value) {
  if (typeof value === "boolean") return value ? T.system.yes : T.system.no;
  if (name.endsWith("_at") && typeof value === "number") return time(value);
  if (name.endsWith("bytes") || name.includes(" folders ")) return bytes(value);
  if (name.endsWith("_ms")) return `${Math.round(value)} ms`;
  if (name.endsWith("_s")) return duration(value);
  return String(value);
}

function drawSessions(found, again) {
  return table([
    { name: T.words.who, cell: (one) => one.name ?? one.key_id ?? one.actor },
    { name: T.words.from, cell: (one) => one.address || "–" },
    { name: T.words.created, cell: (one) => time(one.created_at), nowrap: true },
    { name: T.words.seen, cell: (one) => time(one.seen_at), nowrap: true },
    { name: "", cell: (one) => (session.operator.role === "viewer" ? null : button(T.system.end, () => attempt(() => admin.endSession(one.id)).then(again))), right: true },
  ], found.data, { label: T.system.sessions });
}
