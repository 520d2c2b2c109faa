// Pool: accounts and limiter groups as they stand, kept fresh by the event stream and by a look every
// few seconds, so that a fault shows within ten (docs/console.md).

import { accounts, pause, resume, watch } from "../admin.js";
import { session } from "../api.js";
import { button, field, fill, h } from "../dom.js";
import { count, duration, money, percent, time } from "../format.js";
import { T } from "../texts.js";
import { attempt, badge, bones, empty, failureNote, formDialog, table, toast } from "../ui.js";

const LOOK_MS = 5000;

/** Show the page. */
export function show(view) {
  const body = h("div", { class: "stack" }, bones(8));
  let shown = "";
  const look = async () => {
    if (document.querySelector("dialog[open]")) return;
    try {
      const found = await accounts();
      const now = JSON.stringify(found);
      if (now === shown) return;
      shown = now;
      const focus = document.activeElement?.dataset?.account;
      draw(body, found, look);
      if (focus) body.querySelector(`[data-account="${CSS.escape(focus)}"]`)?.focus();
    } catch (problem) {
      shown = "";
      fill(body, failureNote(problem, look));
    }
  };
  fill(view, h("div", { class: "head" }, h("div", {}, h("h1", {}, T.nav.pool), h("p", { class: "lead" }, T.pool.lead))), body);
  look();
  const timer = setInterval(() => document.hidden || look(), LOOK_MS);
  const stop = watch(look, ["pool", "account", "account.changed"]);
  return () => {
    clearInterval(timer);
    stop();
  };
}

function draw(body, found, again) {
  if (!found.data.length) return void fill(body, empty("pool", T.pool.emptyTitle, T.pool.emptyText));
  const serving = found.data.filter((one) => !one.paused && ["ready", "returning", "idle"].includes(one.state ?? "idle")).length;
  const tile = (name, value, note = null) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value), note ? h("dd", { class: "sub" }, note) : null);
  fill(body, h("dl", { class: "tiles" },
    tile(T.pool.accounts, `${serving} / ${found.data.length}`, T.pool.serving),
    tile(T.words.inFlight, count(sum(found.data, "in_flight"))),
    tile(T.words.limit, limits(found.data)),
    tile(T.words.delivered, count(sum(found.data, "delivered")))),
  table(columns(again), found.data, { label: T.pool.accounts }));
}

function sum(rows, name) {
  return rows.reduce((total, one) => total + (one[name] ?? 0), 0);
}

/** Accounts of one group share one limit: it counts once. */
function limits(rows) {
  const groups = new Map(rows.map((one) => [one.group, one.limit?.images_per_minute ?? null]));
  const known = [...groups.values()].filter((value) => value !== null);
  return known.length ? count(known.reduce((total, value) => total + value, 0)) : "–";
}

function columns(again) {
  return [
    { name: T.words.account, cell: (one) => [h("b", {}, one.name), h("small", {}, h("br"), `${one.upstream} · ${one.group}`)], nowrap: true },
    { name: T.words.state, cell: (one) => state(one) },
    { name: T.words.limit, cell: (one) => limit(one.limit) },
    { name: T.words.inFlight, cell: (one) => count(one.in_flight), right: true },
    { name: T.words.score, cell: (one) => (one.score === null || one.score === undefined ? "–" : one.score.toFixed(2)), right: true },
    { name: T.words.success, cell: success, right: true },
    { name: T.words.latency, cell: (one) => duration(one.p50_s), right: true },
    { name: T.words.delivered, cell: (one) => count(one.delivered), right: true },
    { name: T.words.perPicture, cell: (one) => money(one.cost_per_image_micros), right: true },
    { name: "", cell: (one) => act(one, again), right: true },
  ];
}

// Where so many of at least ten attempts fail, the account is worth a look, whatever the pool says of it.
const SICK = 0.9;
const ENOUGH = 10;

function success(one) {
  const text = percent(one.success_share);
  return one.success_share !== null && one.success_share < SICK && one.attempts >= ENOUGH ? badge("warning", text) : text;
}

function state(one) {
  const now = one.paused ? "paused" : one.state ?? "idle";
  const why = one.paused ? one.paused.reason : one.reason;
  return [badge(now), one.until ? h("small", {}, ` ${T.pool.until} `, time(one.until)) : null, why ? h("small", {}, h("br"), why) : null];
}

function limit(one) {
  if (!one || one.images_per_minute === null) return h("small", {}, T.pool.unlimited);
  return [h("span", { class: "num" }, count(one.images_per_minute)), h("small", {}, ` ${one.learnt ? T.pool.learned : T.pool.configured}`),
    one.learnt && one.configured ? h("small", {}, h("br"), `${T.pool.configured} ${count(one.configured)}`) : null];
}

function act(one, again) {
  if (session.operator.role === "viewer") return null;
  const mark = { "data-account": one.name };
  if (one.paused) {
    return button(T.pool.resume, () => attempt(async () => {
      await resume(one.name);
      toast(T.pool.resumedToast(one.name));
      await again();
    }), { glyph: "play", ...mark });
  }
  return button(T.pool.pause, async () => {
    const reason = h("input", { name: "reason", required: true, maxlength: 200 });
    const done = await formDialog(T.pool.pauseTitle(one.name), {
      intro: T.pool.pauseText, fields: field(T.pool.reason, reason), yes: T.pool.pause,
      send: () => pause(one.name, reason.value.trim()),
    });
    if (!done) return;
    toast(T.pool.pausedToast(one.name));
    await again();
  }, { glyph: "pause", ...mark });
}
