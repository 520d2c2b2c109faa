// Pieces that pages are made of: dialogs, toasts, tables, empty and loading states. Owns their
// behaviour under the keyboard; knows no route.

import { button, fill, h, icon } from "./dom.js";
import { T } from "./texts.js";

/** Say something for a moment; `bad` stays longer. */
export function toast(text, { bad = false } = {}) {
  const element = h("div", { class: `toast ${bad ? "bad" : ""}` }, text);
  document.getElementById("toasts").append(element);
  setTimeout(() => element.remove(), bad ? 9000 : 4000);
}

/** Run `work` and show its failure as words; returns its result, or undefined. */
export async function attempt(work, place = null) {
  try {
    return await work();
  } catch (problem) {
    if (problem.name === "AbortError") return undefined;
    if (place) fill(place, failureNote(problem));
    else toast(problem.message, { bad: true });
    return undefined;
  }
}

/** A refusal as a note: what happened, then what to do. */
export function failureNote(problem, again = null) {
  const todo = T.errors.todo[problem.code] ?? null;
  return h("div", { class: "note bad", role: "alert" }, problem.message,
    todo ? h("span", { class: "todo" }, todo) : null,
    again ? h("div", { class: "row" }, button(T.again, again)) : null);
}

/** What is shown where there is nothing yet. */
export function empty(glyph, title, text, action = null) {
  return h("div", { class: "empty" }, icon(glyph), h("h2", {}, title), h("p", {}, text), action);
}

/** Grey bars in the place of what is being loaded. */
export function bones(rows = 5) {
  return h("div", { class: "stack", role: "status", "aria-label": T.loading },
    Array.from({ length: rows }, (_, at) => h("div", { class: "bone", style: { width: `${96 - ((at * 17) % 30)}%` } })));
}

/** Open a dialog; `build(close)` gives its contents. Resolves with what it was closed with. */
export function dialog(title, build, { wide = false } = {}) {
  return new Promise((resolve) => {
    const heading = `dialog-${Math.random().toString(36).slice(2)}`;
    let result;
    const box = h("dialog", { class: wide ? "wide" : "", "aria-labelledby": heading });
    const close = (value) => {
      result = value;
      box.close();
    };
    const body = h("div", { class: "body" });
    box.append(
      h("header", {}, h("h2", { id: heading }, title), button(T.close, () => close(), { glyph: "close", kind: "plain", bare: true })),
      body);
    fill(body, build(close));
    box.addEventListener("close", () => {
      box.remove();
      resolve(result);
    });
    // A click on the backdrop lands on the dialog itself.
    box.addEventListener("click", (event) => event.target === box && close());
    document.body.append(box);
    box.showModal();
  });
}

/** Ask before something that cannot be taken back; true when it is wanted. */
export async function confirm(title, text, yes) {
  return Boolean(await dialog(title, (close) => [
    h("p", {}, text),
    h("div", { class: "foot" }, button(T.no, () => close(false)), button(yes, () => close(true), { kind: "primary" })),
  ]));
}

/** A form in a dialog: `fields` by name, `send(values)` does it. Refusals are shown inside. */
export function formDialog(title, { intro = null, fields, yes, send }) {
  return dialog(title, (close) => {
    const notes = h("div");
    const go = h("button", { type: "submit", class: "button primary" }, yes);
    const form = h("form", { class: "stack", on: { submit: async (event) => {
      event.preventDefault();
      go.disabled = true;
      try {
        close(await send(new FormData(form)) ?? true);
      } catch (problem) {
        fill(notes, failureNote(problem));
      } finally {
        go.disabled = false;
      }
    } } }, intro ? h("p", {}, intro) : null, fields, notes,
    h("div", { class: "foot" }, button(T.cancel, () => close()), go));
    return form;
  });
}

/** A table. `columns`: {name, cell(row), right, cut, nowrap}; `open(row)` makes rows selectable. */
export function table(columns, rows, { open = null, label } = {}) {
  const body = h("tbody", {}, rows.map((row, at) => tableRow(columns, row, open, at === 0)));
  if (open) roving(body, "tr");
  return h("div", { class: "table-wrap cards" }, h("table", { "aria-label": label },
    h("thead", {}, h("tr", {}, columns.map((one) => h("th", { scope: "col", class: one.right ? "right" : "" },
      one.name || h("span", { class: "away" }, T.actions))))), body));
}

/** One row of such a table. */
export function tableRow(columns, row, open, first = false) {
  const element = h("tr", open ? { tabindex: first ? 0 : -1, on: {
    click: (event) => event.target.closest("a,button,input,select") || open(row),
    keydown: (event) => {
      if (event.key === "Enter" && event.target === element) open(row);
    },
  } } : {}, columns.map((one) => h("td", {
    class: `${one.right ? "right" : ""} ${one.cut ? "cut" : ""} ${one.nowrap ? "nowrap" : ""}`, data: { name: one.name },
  }, h("div", {}, one.cell(row)))));
  return element;
}

/** One of a list's entries has the focus; arrows, Home and End move it (ARIA practices, roving tabindex). */
export function roving(list, selector, { columns = () => 1 } = {}) {
  list.addEventListener("keydown", (event) => {
    const all = [...list.querySelectorAll(selector)];
    const at = all.indexOf(event.target.closest(selector));
    if (at < 0 || event.target !== all[at]) return;
    const step = { ArrowDown: columns(), ArrowUp: -columns(), ArrowRight: 1, ArrowLeft: -1, j: columns(), k: -columns() }[event.key];
    const next = event.key === "Home" ? 0 : event.key === "End" ? all.length - 1 : step === undefined ? -1 : at + step;
    if (next < 0 || next >= all.length) return;
    event.preventDefault();
    focusOn(all, next);
  });
  list.addEventListener("focusin", (event) => {
    const all = [...list.querySelectorAll(selector)];
    const at = all.indexOf(event.target);
    if (at >= 0) all.forEach((one, index) => { one.tabIndex = index === at ? 0 : -1; });
  });
}

function focusOn(all, at) {
  all.forEach((one, index) => { one.tabIndex = index === at ? 0 : -1; });
  all[at].focus();
  all[at].scrollIntoView({ block: "nearest" });
}

/** Buttons of which one is chosen, as radio buttons. */
export function segments(legend, pairs, value, act) {
  const name = `segments-${Math.random().toString(36).slice(2)}`;
  return h("fieldset", {}, h("legend", { class: "legend" }, legend), h("div", { class: "segments" },
    pairs.map(([own, text]) => h("label", {},
      h("input", { type: "radio", name, value: own, checked: own === value, on: { change: () => act(own) } }), h("span", {}, text)))));
}

/** A list that grows: rows of `source` under `table` columns, with a button for the next ones. */
export function pagedTable(source, columns, { open = null, label, none }) {
  const place = h("div", {}, bones());
  const more = h("div", { class: "more" });
  let body = null;
  const load = async () => {
    fill(more);
    try {
      const rows = await source.next();
      if (!body && rows.length === 0) return void fill(place, none);
      if (body) body.append(...rows.map((row) => tableRow(columns, row, open)));
      else {
        fill(place, table(columns, rows, { open, label }));
        body = place.querySelector("tbody");
      }
      if (source.more) fill(more, button(T.more, load));
    } catch (problem) {
      fill(body ? more : place, failureNote(problem, load));
    }
  };
  load();
  return h("div", {}, place, more);
}

/** A state as a badge; what is not known stays grey. */
export function badge(state, text = null) {
  const kinds = {
    completed: "good", ready: "good", active: "good", ok: "good", done: "good", serving: "good",
    in_progress: "live", queued: "live", validating: "live", finalizing: "live", running: "live",
    failed: "bad", refused: "bad", down: "bad", revoked: "bad", frozen: "bad", exhausted: "bad", raised: "bad", critical: "bad",
    cancelled: "", ejected: "warn", cooling: "warn", returning: "warn", paused: "warn", expired: "warn", warning: "warn", cancelling: "warn",
  };
  return h("span", { class: `badge ${kinds[state] ?? ""}` }, text ?? T.states[state] ?? state.replaceAll("_", " "));
}

/** Save bytes or an address under a name. */
export function save(address, name) {
  const link = h("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
}
