// The door: one field for either kind of key. The key leaves the page with the sign-in and is not kept.

import { signIn } from "./api.js";
import { field, fill, h } from "./dom.js";
import { T } from "./texts.js";
import { failureNote } from "./ui.js";

/** The sign-in form; `done()` goes on. */
export function signInView(done) {
  const notes = h("div");
  return h("main", { class: "door", id: "main" },
    h("div", { class: "door-box" },
      h("div", { class: "brand" }, h("span", { class: "lamp" }), "safelight"),
      h("h1", {}, T.signin.title), h("p", { class: "hint" }, T.signin.lead), keyForm(notes, done), notes));
}

/** The form alone, for pages that need the other kind of key, too. */
export function keyForm(notes, done) {
  const key = h("input", {
    type: "password", name: "key", required: true, autocomplete: "current-password", spellcheck: "false",
    placeholder: T.signin.placeholder,
  });
  const go = h("button", { type: "submit", class: "button primary big" }, T.signin.go);
  return h("form", { class: "stack", on: { submit: async (event) => {
    event.preventDefault();
    go.disabled = true;
    try {
      await signIn(key.value.trim());
      key.value = "";
      await done();
    } catch (problem) {
      fill(notes, failureNote(problem));
      key.select();
    } finally {
      go.disabled = false;
    }
  } } }, field(T.signin.key, key, T.signin.hint), go);
}
