// Runs and batches: many pictures ordered together, how far they are, and the way to their jobs.

import { call, pages, session } from "../api.js";
import { button, fill, h } from "../dom.js";
import { count, shortId, time } from "../format.js";
import { T } from "../texts.js";
import { attempt, badge, confirm, empty, pagedTable } from "../ui.js";

/** Show the page. */
export function show(view) {
  const base = session.operator ? "/admin/v1" : "/v1";
  const draw = () => {
    fill(view, h("div", { class: "head" }, h("div", {}, h("h1", {}, T.nav.runs), h("p", { class: "lead" }, T.runs.lead))),
      pagedTable(pages(`${base}/batches`, { limit: 50 }), columns(base, draw), {
        label: T.nav.runs, open: (batch) => { location.hash = `#/jobs?batch=${encodeURIComponent(batch.id)}`; },
        none: empty("runs", T.runs.emptyTitle, T.runs.emptyText),
      }));
  };
  draw();
}

function columns(base, again) {
  return [
    { name: T.words.batch, cell: (batch) => shortId(batch.id) },
    ...(session.operator ? [{ name: T.words.customer, cell: (batch) => batch.customer ?? "–" }] : []),
    { name: T.words.state, cell: (batch) => badge(batch.status), nowrap: true },
    { name: T.words.channel, cell: (batch) => batch.model ?? "–" },
    { name: T.runs.progress, cell: (batch) => progress(batch.request_counts) },
    { name: T.words.ordered, cell: (batch) => time(batch.created_at), nowrap: true },
    { name: T.runs.until, cell: (batch) => time(batch.completed_at ?? batch.expires_at), nowrap: true },
    { name: "", cell: (batch) => acts(batch, base, again), right: true },
  ];
}

function progress({ total, completed, failed }) {
  const done = total ? Math.round((completed + failed) * 100 / total) : 0;
  return h("div", {}, h("span", { class: "num" }, `${count(completed)} / ${count(total)}`, failed ? h("small", {}, ` ${T.runs.failed(failed)}`) : null),
    h("div", { class: "meter", role: "progressbar", "aria-valuenow": String(done), "aria-valuemin": "0", "aria-valuemax": "100", "aria-label": T.runs.progress }, h("i", { style: { width: `${done}%` } })));
}

function acts(batch, base, again) {
  const file = (id, name) => (id && !session.operator ? h("a", { class: "button", href: `/v1/files/${id}/content`, download: `${name}.jsonl` }, name) : null);
  const open = ["validating", "in_progress", "finalizing"].includes(batch.status);
  return h("div", { class: "row" }, file(batch.output_file_id, T.runs.output), file(batch.error_file_id, T.runs.errors),
    open && !session.operator ? button(T.jobs.cancel, () => attempt(async () => {
      if (!await confirm(T.runs.cancelTitle, T.runs.cancelText, T.jobs.cancel)) return;
      await call("POST", `${base}/batches/${batch.id}/cancel`);
      again();
    })) : null);
}
