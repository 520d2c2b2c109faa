// Gallery: the customer's pictures, or everybody's for an operator. Search, pin, download, go on
// from one, under the mouse and under the keys p, d and r.

import { call, localLink, pages, session } from "../api.js";
import { button, field, fill, h, select } from "../dom.js";
import { bytes, money, time } from "../format.js";
import { handOver } from "../tray.js";
import { T } from "../texts.js";
import { attempt, bones, confirm, dialog, empty, failureNote, roving, save, toast } from "../ui.js";

const SEARCH_PAUSE_MS = 300;

/** Show the page. */
export function show(view) {
  const base = session.customer ? "/v1" : "/admin/v1";
  const chosen = { search: "", pinned: "", limit: 40 };
  const place = h("div");
  const more = h("div", { class: "more" });
  let source = null;
  let pause = 0;
  let turn = 0;

  const load = async (fresh) => {
    const mine = fresh ? ++turn : turn;
    if (fresh) {
      source = pages(`${base}/images`, chosen);
      fill(place, bones(8));
    }
    fill(more);
    try {
      const found = await source.next();
      if (mine !== turn) return;
      if (fresh) fill(place, found.length ? grid() : nothing(chosen));
      place.querySelector(".pictures")?.append(...found.map((one, at) => card(one, base, at === 0 && fresh)));
      if (source.more) fill(more, button(T.more, () => load(false)));
    } catch (problem) {
      if (mine === turn) fill(fresh ? place : more, failureNote(problem, () => load(fresh)));
    }
  };
  const search = h("input", { type: "search", placeholder: T.gallery.searchPlaceholder, on: { input: () => {
    clearTimeout(pause);
    pause = setTimeout(() => {
      chosen.search = search.value.trim();
      load(true);
    }, SEARCH_PAUSE_MS);
  } } });
  fill(view, h("div", { class: "head" }, h("h1", {}, T.nav.gallery)),
    h("div", { class: "filters" }, h("div", { class: "field grow" }, field(T.gallery.search, search)),
      field(T.gallery.show, select([["", T.gallery.all], ["true", T.gallery.pinned]], "", (value) => {
        chosen.pinned = value;
        load(true);
      }))), place, more);
  load(true);
  return () => clearTimeout(pause);
}

function nothing(chosen) {
  if (chosen.search || chosen.pinned) return empty("search", T.gallery.noneTitle, T.gallery.noneText);
  return empty("gallery", T.gallery.emptyTitle, T.gallery.emptyText, h("a", { class: "button primary", href: "#/studio" }, T.gallery.emptyAction));
}

function grid() {
  const list = h("ul", { class: "pictures", "aria-label": T.nav.gallery });
  roving(list, ".picture", { columns: () => getComputedStyle(list).gridTemplateColumns.split(" ").length });
  list.addEventListener("keydown", (event) => {
    const name = { p: "pin", d: "download", r: "reference", Enter: "shot" }[event.key];
    if (name && event.target.matches(".picture")) event.target.querySelector(`[data-act="${name}"]`)?.click();
  });
  return list;
}

function card(image, base, first) {
  const words = image.prompt ?? T.gallery.untold;
  const link = localLink(image.url);
  const pin = button(image.pinned ? T.gallery.unpin : T.gallery.pin, () => attempt(() => togglePin(image, base, pin)),
    { glyph: "pin", kind: image.pinned ? "plain pinned" : "plain", bare: true, "data-act": "pin", "aria-pressed": String(image.pinned) });
  const item = h("li", { class: "picture", tabindex: first ? 0 : -1, "aria-label": words.slice(0, 120) },
    h("button", { type: "button", class: "shot", tabindex: "-1", "data-act": "shot", "aria-label": T.gallery.open, on: { click: () => big(image, base, item) } },
      h("img", { src: link, alt: words.slice(0, 200), loading: "lazy" })),
    h("div", { class: "about" }, h("p", { class: "words" }, words),
      h("div", { class: "row" }, h("small", { class: "num" }, `${image.width} × ${image.height}`),
        h("span", { class: "acts" }, pin,
          button(T.download, () => save(link, `${image.id}.${image.format}`), { glyph: "download", kind: "plain", bare: true, "data-act": "download" }),
          session.customer ? button(T.useAsReference, () => handOver({ url: link, name: image.id }), { glyph: "reference", kind: "plain", bare: true, "data-act": "reference" }) : null))));
  return item;
}

async function togglePin(image, base, element) {
  const found = await call("POST", `${base}/images/${image.id}/${image.pinned ? "unpin" : "pin"}`);
  Object.assign(image, { pinned: found.pinned, kept_until: found.kept_until });
  element.setAttribute("aria-pressed", String(image.pinned));
  element.classList.toggle("pinned", image.pinned);
  element.title = image.pinned ? T.gallery.unpin : T.gallery.pin;
  element.setAttribute("aria-label", element.title);
  toast(image.pinned ? T.gallery.pinnedToast : T.gallery.unpinnedToast);
}

function big(image, base, item) {
  const link = localLink(image.url);
  const fact = (name, value) => [h("dt", {}, name), h("dd", {}, value)];
  return dialog(T.gallery.picture, (close) => h("div", { class: "big-picture" },
    h("img", { src: link, alt: (image.prompt ?? "").slice(0, 200) }),
    h("div", { class: "stack" }, h("p", {}, image.prompt ?? T.gallery.untold),
      h("dl", { class: "facts" },
        fact(T.words.made, time(image.created_at)), fact(T.words.pixels, `${image.width} × ${image.height}`),
        image.model ? fact(T.words.channel, image.model) : null,
        fact(T.words.file, `${image.format.toUpperCase()}, ${bytes(image.bytes)}`),
        image.price_micros === undefined ? null : fact(T.words.price, money(image.price_micros)),
        fact(T.words.keptUntil, image.pinned ? T.gallery.forGood : time(image.kept_until)),
        image.job_id ? fact(T.words.job, h("a", { href: `#/jobs/${image.job_id}`, on: { click: () => close() } }, image.job_id)) : null),
      h("div", { class: "row" },
        button(T.download, () => save(link, `${image.id}.${image.format}`), { glyph: "download" }),
        session.customer ? button(T.useAsReference, () => {
          close();
          handOver({ url: link, name: image.id });
        }, { glyph: "reference" }) : null,
        button(T.gallery.remove, () => attempt(async () => {
          if (!await confirm(T.gallery.removeTitle, T.gallery.removeText, T.gallery.remove)) return;
          await call("DELETE", `${base}/images/${image.id}`);
          item.remove();
          close();
        }), { glyph: "trash", kind: "danger" })))), { wide: true });
}
