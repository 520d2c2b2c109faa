// The pictures that an edit begins with: dropped, chosen, pasted or taken from the gallery, and the
// mask over the first one. Owns them until they are sent; nothing is uploaded before the order.

import { button, fill, h, icon } from "./dom.js";
import { paintMask } from "./mask.js";
import { T } from "./texts.js";
import { attempt, toast } from "./ui.js";

const MOST = 16;
const TYPES = ["image/png", "image/jpeg", "image/webp"];
let waiting = null;

/** Keep a picture for the Studio that is about to be opened. */
export function handOver(picture) {
  waiting = picture;
  if (location.hash.startsWith("#/studio")) dispatchEvent(new Event("hashchange"));
  else location.hash = "#/studio";
}

/** Take what was kept, once. */
export function handedOver() {
  const found = waiting;
  waiting = null;
  return found;
}

export class Tray {
  constructor(changed) {
    this.items = [];
    this.mask = null;
    this.changed = changed;
  }

  get size() {
    return this.items.length;
  }

  element() {
    this.list = h("ul", { class: "tray" });
    this.input = h("input", { type: "file", accept: TYPES.join(","), multiple: true, class: "away", tabindex: "-1", "aria-label": T.tray.choose,
      on: { change: () => {
        this.addFiles(this.input.files);
        this.input.value = "";
      } } });
    const zone = h("div", { class: "drop", on: {
      dragover: (event) => {
        event.preventDefault();
        zone.classList.add("over");
      },
      dragleave: () => zone.classList.remove("over"),
      drop: (event) => {
        event.preventDefault();
        zone.classList.remove("over");
        this.addFiles(event.dataTransfer.files);
      },
    } }, this.list, this.input);
    this.pasted = (event) => event.clipboardData?.files.length && this.addFiles(event.clipboardData.files);
    addEventListener("paste", this.pasted);
    this.draw();
    return zone;
  }

  end() {
    removeEventListener("paste", this.pasted);
    this.items.forEach((item) => URL.revokeObjectURL(item.address));
  }

  addFiles(files) {
    for (const file of files) {
      if (!TYPES.includes(file.type)) toast(T.tray.wrongType(file.name), { bad: true });
      else this.add(file, file.name);
    }
  }

  /** Add a picture of this gateway by its link. */
  async addLink({ url, name }) {
    const answer = await fetch(url, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(T.tray.gone);
    this.add(await answer.blob(), name);
  }

  add(blob, name) {
    if (this.items.length >= MOST) return toast(T.tray.full(MOST), { bad: true });
    this.items.push({ blob, name, address: URL.createObjectURL(blob) });
    this.update();
  }

  clear() {
    this.items.forEach((item) => URL.revokeObjectURL(item.address));
    this.items = [];
    this.mask = null;
    this.update();
  }

  /** Put the pictures and the mask into a form as the edits route takes them. */
  async fill(form) {
    this.items.forEach((item, at) => form.append("image[]", item.blob, `input-${at}.${item.blob.type.split("/")[1]}`));
    if (this.mask) form.append("mask", this.mask, "mask.png");
  }

  /** Paint on the first picture; what is painted may change. */
  async paint() {
    const found = await paintMask(this.items[0].address, this.mask);
    if (found !== undefined) this.mask = found;
    this.update();
  }

  update() {
    this.draw();
    this.changed();
  }

  draw() {
    const add = h("li", {}, h("button", { type: "button", class: "add", on: { click: () => this.input.click() } },
      icon("plus"), h("span", {}, this.size ? T.tray.more : T.tray.first)));
    fill(this.list, this.items.map((item, at) => h("li", {},
      h("img", { src: item.address, alt: item.name }),
      at === 0 ? h("button", { type: "button", class: `mask-button ${this.mask ? "on" : ""}`, on: { click: () => attempt(() => this.paint()) } },
        icon("brush"), this.mask ? T.tray.masked : T.tray.mask) : null,
      button(T.tray.remove(item.name), () => {
        URL.revokeObjectURL(item.address);
        this.items.splice(at, 1);
        if (at === 0) this.mask = null;
        this.update();
      }, { glyph: "close", kind: "remove", bare: true }))), this.size < MOST ? add : null);
  }
}
