// Keys that work on every page, and the list of them. Owns `g` and a letter, `/` and `?`; never takes
// a key from a field that somebody types in.

import { h } from "./dom.js";
import { T } from "./texts.js";
import { dialog } from "./ui.js";

let waiting = false;

/** Begin to listen; `pages()` gives [name, for whom, letter]. */
export function listen(pages) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    if (document.querySelector("dialog[open]")) return;
    const shown = pages();
    if (waiting) {
      waiting = false;
      const found = shown.find(([, , letter]) => letter === event.key);
      if (found) {
        event.preventDefault();
        location.hash = `#/${found[0]}`;
      }
    } else if (event.key === "g" && shown.length) {
      waiting = true;
      setTimeout(() => { waiting = false; }, 1500);
    } else if (event.key === "?" && shown.length) {
      event.preventDefault();
      helpDialog(shown);
    } else if (event.key === "/") {
      const search = document.querySelector("main input[type=search]");
      if (search) {
        event.preventDefault();
        search.focus();
      }
    }
  });
}

function typing(target) {
  return target instanceof HTMLElement && (target.isContentEditable || ["TEXTAREA", "SELECT"].includes(target.tagName)
    || (target.tagName === "INPUT" && !["checkbox", "radio", "range", "button"].includes(target.type)));
}

/** Show the list of keys. */
export function helpDialog(pages) {
  const row = (keys, text) => [h("dt", {}, keys.map((key) => [h("kbd", {}, key), " "])), h("dd", {}, text)];
  return dialog(T.shortcuts.title, () => [
    h("h3", {}, T.shortcuts.pages),
    h("dl", { class: "facts keys" }, pages.map(([name, , letter]) => row(["g", letter], T.nav[name]))),
    h("h3", {}, T.shortcuts.everywhere),
    h("dl", { class: "facts keys" },
      row(["/"], T.shortcuts.search), row(["?"], T.shortcuts.help), row(["Esc"], T.shortcuts.escape),
      row(["↑", "↓", "Home", "End"], T.shortcuts.lists), row(["Enter"], T.shortcuts.enter)),
    h("h3", {}, T.nav.studio),
    h("dl", { class: "facts keys" }, row(["Ctrl", "Enter"], T.shortcuts.generate)),
    h("h3", {}, T.nav.gallery),
    h("dl", { class: "facts keys" }, row(["p"], T.shortcuts.pin), row(["d"], T.shortcuts.download), row(["r"], T.shortcuts.reference)),
  ]);
}
