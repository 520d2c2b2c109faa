// Jobs: the list, kept fresh while it is looked at, and one job with its steps, attempts and money.

import { call, localLink, pages, session, watchJob } from "../api.js";
import { button, field, fill, h, icon, select } from "../dom.js";
import { duration, money, shortId, time } from "../format.js";
import { T } from "../texts.js";
import { attempt, badge, bones, confirm, empty, failureNote, pagedTable, save } from "../ui.js";

const STATES = ["queued", "in_progress", "completed", "failed", "cancelled"];
const LOOK_MS = 3000;

const base = () => (session.operator ? "/admin/v1" : "/v1");

/** Show the list, or one job. */
export function show(view, context) {
  return context.rest[0] ? one(view, context.rest[0]) : list(view, context.query);
}

function list(view, query) {
  const chosen = { status: query.get("status") ?? "", model: "", batch_id: query.get("batch") ?? "", customer: query.get("customer") ?? "" };
  const place = h("div");
  const live = h("span", { class: "badge live" }, T.jobs.live);
  const columns = [
    { name: T.words.picture, cell: (job) => thumb(job) },
    { name: T.words.state, cell: (job) => badge(job.status), nowrap: true },
    { name: T.words.channel, cell: (job) => job.model },
    ...(session.operator ? [{ name: T.words.customer, cell: (job) => job.customer ?? "–" }] : []),
    { name: T.words.size, cell: (job) => [job.size.replace("x", " × "), h("small", {}, ` ${T.plan(job.size_plan)}`)] },
    { name: T.words.ordered, cell: (job) => time(job.created_at), nowrap: true },
    { name: T.words.took, cell: (job) => (job.completed_at ? duration(job.completed_at - job.created_at) : "–"), right: true },
    { name: T.words.attempts, cell: (job) => String(job.attempts), right: true },
    { name: T.words.price, cell: (job) => (job.status === "completed" ? money(job.price_micros) : job.completed_at ? T.free : money(job.price_micros)), right: true },
  ];
  let newest = "";
  const draw = () => fill(place, pagedTable(pages(`${base()}/jobs`, { ...chosen, limit: 50 }), columns, {
    label: T.nav.jobs, open: (job) => { location.hash = `#/jobs/${job.id}`; },
    none: empty("jobs", T.jobs.emptyTitle, T.jobs.emptyText, session.customer ? h("a", { class: "button primary", href: "#/studio" }, T.gallery.emptyAction) : null),
  }));
  // One small look tells whether anything in the list moved; only then is it read again.
  const look = async () => {
    if (document.hidden || place.contains(document.activeElement)) return;
    try {
      const found = await call("GET", `${base()}/jobs`, { query: { ...chosen, limit: 10 } });
      const now = JSON.stringify(found.data.map((job) => [job.id, job.status, job.stage]));
      if (newest && now !== newest) draw();
      newest = now;
      live.hidden = false;
    } catch {
      live.hidden = true; // the next look tells; the list itself stays
    }
  };
  const timer = setInterval(look, LOOK_MS);
  fill(view, h("div", { class: "head" }, h("h1", {}, T.nav.jobs), live),
    h("div", { class: "filters" },
      field(T.words.state, select([["", T.jobs.any], ...STATES.map((state) => [state, T.states[state]])], chosen.status, (value) => {
        chosen.status = value;
        newest = "";
        draw();
      })),
      field(T.words.channel, h("input", { type: "search", value: chosen.model, placeholder: T.jobs.anyChannel, on: { change: (event) => {
        chosen.model = event.target.value.trim();
        newest = "";
        draw();
      } } }))), place);
  draw();
  look();
  return () => clearInterval(timer);
}

function thumb(job) {
  if (!job.image?.url) return h("span", { class: "shot-small" });
  return h("img", { class: "shot-small", src: localLink(job.image.url), alt: "", loading: "lazy" });
}

async function one(view, id) {
  fill(view, bones(8));
  let job;
  let receipt;
  const read = async () => {
    [job, receipt] = await Promise.all([call("GET", `${base()}/jobs/${id}`), call("GET", `${base()}/jobs/${id}/receipt`).catch(() => null)]);
  };
  try {
    await read();
  } catch (problem) {
    return void fill(view, failureNote(problem), h("p", {}, h("a", { href: "#/jobs" }, T.jobs.back)));
  }
  const facts = h("div", { class: "stack" });
  const steps = h("ol", { class: "steps" });
  const head = h("div", { class: "row" });
  const draw = () => {
    fill(head, badge(job.status), shortId(job.id), ...acts(job, async () => {
      await read();
      draw();
    }));
    fill(facts, picture(job), known(job), receipt ? money_(receipt) : null, receipt?.attempts?.length ? attempts(receipt) : null);
  };
  fill(view, h("div", { class: "head" }, h("div", {}, h("a", { href: "#/jobs" }, T.jobs.back), h("h1", {}, T.jobs.one)), head),
    h("div", { class: "split" }, facts, h("section", { class: "card" }, h("h2", {}, T.jobs.steps), steps)));
  draw();
  if (session.operator) return follow(() => job, async () => {
    await read();
    draw();
  }, () => fill(steps, retold(job, receipt).map(step)));
  const stop = watchJob(id, async (told) => {
    if (told.type === "job.partial_image") return;
    steps.append(step(told));
    if (told.job) job = { ...job, ...told.job };
    else Object.assign(job, { status: told.status, stage: told.stage ?? job.stage });
    if (["completed", "failed", "cancelled"].includes(told.status)) await attempt(read);
    draw();
  });
  return stop;
}

/** Look at a job again until it has ended: an operator sees rows, not a customer's events. */
function follow(now, again, draw) {
  draw();
  const timer = setInterval(async () => {
    if (now().completed_at) return clearInterval(timer);
    await attempt(again);
    draw();
  }, LOOK_MS);
  return () => clearInterval(timer);
}

/** What happened to a job, by its rows: the same words as the events, with the times that are kept. */
function retold(job, receipt) {
  const calls = (receipt?.attempts ?? []).flatMap((one) => {
    const ended = one.sent_at + Math.round(one.seconds ?? 0);
    const sent = { type: "job.in_progress", stage: "sent", status: "in_progress", attempt: one.number, created_at: one.sent_at };
    if (one.outcome === null) return [sent];
    if (one.outcome === "ok") return [sent, { ...sent, stage: "received", created_at: ended }];
    return [sent, { type: "job.attempt_failed", status: "in_progress", attempt: one.number, reason: T.outcomes[one.outcome] ?? one.outcome, created_at: ended }];
  });
  const first = { type: "job.queued", status: "queued", created_at: job.created_at };
  const last = { type: `job.${job.status}`, status: job.status, created_at: job.completed_at, job };
  return [first, ...calls, ...(job.completed_at ? [last] : [])];
}

function acts(job, again) {
  const found = [];
  if (job.image?.url) found.push(button(T.download, () => save(localLink(job.image.url), `${job.id}.${job.image.format}`), { glyph: "download" }));
  if (!job.completed_at && !job.cancel_requested_at) {
    found.push(button(T.jobs.cancel, () => attempt(async () => {
      if (!await confirm(T.jobs.cancelTitle, T.jobs.cancelText, T.jobs.cancel)) return;
      await call("POST", `${base()}/jobs/${job.id}/cancel`);
      await again();
    }), { glyph: "close" }));
  }
  return found;
}

function step(told) {
  const kind = told.type === "job.attempt_failed" ? "bad" : { completed: "good", failed: "bad", cancelled: "" }[told.status] ?? "live";
  const words = T.event(told);
  return h("li", { class: kind }, time(told.created_at), h("div", {}, h("b", {}, words[0]), words[1] ? h("p", { class: "hint" }, words[1]) : null));
}

function picture(job) {
  if (job.image?.url) return h("img", { class: "preview", src: localLink(job.image.url), alt: T.jobs.result });
  if (job.error) return h("div", { class: "note bad" }, job.error.message, h("span", { class: "todo" }, T.studio.notCharged));
  return null;
}

const fact = (name, value) => (value === null || value === undefined ? null : [h("dt", {}, name), h("dd", {}, value)]);

function known(job) {
  return h("dl", { class: "facts card" },
    fact(T.words.customer, job.customer), fact(T.words.prompt, job.prompt), fact(T.words.channel, job.model), fact(T.words.size, job.size.replace("x", " × ")), fact(T.words.plan, T.plan(job.size_plan)),
    fact(T.words.ordered, time(job.created_at)), fact(T.words.ended, job.completed_at ? time(job.completed_at) : null),
    fact(T.words.expected, job.expected_finish_at && !job.completed_at ? time(job.expected_finish_at) : null),
    fact(T.words.request, h("code", {}, job.request_id)),
    fact(T.words.sha256, job.image ? h("code", {}, job.image.sha256) : null));
}

function money_(receipt) {
  return h("section", { class: "card stack" }, h("h2", {}, T.words.money),
    h("dl", { class: "facts" }, fact(T.words.price, money(receipt.price_micros)), fact(T.words.charged, money(receipt.charged_micros)),
      fact(T.words.whyFree, receipt.free_reason), fact(T.words.vendorCost, receipt.cost_micros === undefined ? null : money(receipt.cost_micros))));
}

function attempts(receipt) {
  return h("section", { class: "card stack" }, h("h2", {}, T.words.attempts),
    h("ul", { class: "stack" }, receipt.attempts.map((one) => h("li", { class: "row" },
      icon(one.delivered ? "check" : "jobs"), h("span", {}, `${one.number}. ${one.account}`),
      h("span", { class: "hint" }, [T.outcomes[one.outcome] ?? one.outcome ?? T.running, one.seconds === null ? null : duration(one.seconds)].filter(Boolean).join(" · "))))));
}
