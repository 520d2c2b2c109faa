// The frame: who is signed in, which page is shown, the rail beside it and the keys that work
// everywhere. Pages are loaded when they are first opened; each exports `show(view, context)` and
// may return a function that ends what it began.

import { forget, resume, session, signedIn, signOut } from "./api.js";
import { button, fill, h, icon } from "./dom.js";
import { helpDialog, listen } from "./shortcuts.js";
import { signInView } from "./signin.js";
import { T } from "./texts.js";
import { attempt, bones, failureNote } from "./ui.js";

// name, for whom, the letter that opens it after `g`
const PAGES = [
  ["studio", "all", "s"], ["gallery", "all", "g"], ["jobs", "all", "j"], ["runs", "all", "r"], ["statement", "all", "m"],
  ["pool", "operator", "p"], ["customers", "operator", "c"], ["metrics", "operator", "t"], ["system", "operator", "y"],
];
const app = document.getElementById("app");
const main = h("main", { id: "main", tabindex: "-1" });
let rail = null;
let leave = null;
let turn = 0;

function allowed() {
  return PAGES.filter(([, who]) => who === "all" || session.operator);
}

function route() {
  const [name, ...rest] = decodeURIComponent(location.hash.replace(/^#\/?/, "").split("?")[0]).split("/");
  const known = allowed().some(([own]) => own === name);
  const home = session.operator && !session.customer ? "pool" : "studio";
  return { name: known ? name : home, rest, query: new URLSearchParams(location.hash.split("?")[1] ?? "") };
}

/** Show the page that the address names. */
async function navigate() {
  if (!signedIn()) return;
  const mine = ++turn;
  const to = route();
  leave?.();
  leave = null;
  mark(to.name);
  openRail(false);
  document.title = `${T.nav[to.name]} · safelight`;
  fill(main, bones(6));
  try {
    const page = await import(`./pages/${to.name}.js`);
    if (mine !== turn) return;
    const view = fill(main, h("div", { class: `page page-${to.name}` })).firstChild;
    leave = (await page.show(view, { ...to, who: session })) ?? null;
    if (mine !== turn) leave?.();
  } catch (problem) {
    if (mine === turn) fill(main, failureNote(problem, navigate));
  }
}

function mark(name) {
  for (const link of rail.querySelectorAll("nav a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function openRail(open) {
  rail.classList.toggle("open", open);
  app.querySelector(".veil").classList.toggle("open", open);
  app.querySelector(".bar .button").setAttribute("aria-expanded", String(open));
  if (open) rail.querySelector("nav a").focus();
}

function link([name]) {
  return h("a", { href: `#/${name}`, data: { page: name } }, icon(name), T.nav[name]);
}

function frame() {
  const shown = allowed();
  const operators = shown.filter(([, who]) => who === "operator");
  const themes = { system: "light", light: "dark", dark: "system" };
  const theme = button(T.theme[safelightTheme.get()], () => {
    safelightTheme.set(themes[safelightTheme.get()]);
    theme.lastChild.textContent = T.theme[safelightTheme.get()];
  }, { glyph: "theme", kind: "plain" });
  rail = h("header", { class: "rail", on: { keydown: (event) => event.key === "Escape" && openRail(false) } },
    h("a", { class: "brand", href: "#/" }, h("span", { class: "lamp" }), "safelight"),
    h("nav", { "aria-label": T.pages },
      shown.filter(([, who]) => who === "all").map(link),
      operators.length ? h("p", { class: "group" }, T.operatorPages) : null, operators.map(link)),
    h("div", { class: "foot" },
      h("p", { class: "who" }, h("b", {}, session.operator?.name ?? session.customer?.name ?? ""), who()),
      theme,
      button(T.shortcuts.open, () => helpDialog(shown), { glyph: "keyboard", kind: "plain" }),
      button(T.signOut, async () => {
        await attempt(signOut);
        start();
      }, { glyph: "leave", kind: "plain" })));
  fill(app,
    h("a", { class: "away", href: "#main", on: { click: (event) => {
      event.preventDefault();
      main.focus();
    } } }, T.skip),
    h("div", { class: "frame" }, h("nav", { class: "bar", "aria-label": T.menu },
      button(T.menu, () => openRail(!rail.classList.contains("open")), { glyph: "menu", kind: "plain", bare: true, "aria-expanded": "false" }),
      h("a", { class: "brand", href: "#/" }, h("span", { class: "lamp" }), "safelight")),
    rail, main), h("div", { class: "veil", on: { click: () => openRail(false) } }));
}

function who() {
  if (session.operator) return T.roles[session.operator.role] ?? session.operator.role;
  return T.roles.customer;
}

async function start() {
  leave?.();
  leave = null;
  if (signedIn()) {
    frame();
    await navigate();
  } else {
    document.title = T.signInTitle;
    fill(app, signInView(start));
    app.querySelector("input").focus();
  }
}

addEventListener("hashchange", navigate);
addEventListener("signedout", (event) => {
  const had = event.detail ? session.operator : session.customer;
  if (!had) return;
  forget(event.detail);
  if (!signedIn()) start();
});
addEventListener("sessionchange", () => {
  frame();
  navigate();
});
listen(() => (signedIn() ? allowed() : []));
try {
  await resume();
  await start();
} catch (problem) {
  fill(app, h("div", { class: "door" }, failureNote(problem, () => location.reload())));
}
