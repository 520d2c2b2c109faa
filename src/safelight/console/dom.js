// Elements from plain calls. Owns the only ways in which the console writes to a document: text is
// always text, never markup, so nothing that a server says can become a script.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element: `class`, `on` (listeners), `data`, `style` (properties) and attributes. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, act] of Object.entries(value)) element.addEventListener(event, act);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "style") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else if (name === "class") element.className = value;
    else if (name in element && ["value", "checked", "disabled", "hidden", "selected", "open"].includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...flat(children));
  return element;
}

function flat(children) {
  return children.flat(9).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Replace what is inside `parent`. */
export function fill(parent, ...children) {
  parent.replaceChildren(...flat(children));
  return parent;
}

const PATHS = {
  studio: "M4 20l4-1L19 8l-3-3L5 16l-1 4zM14 7l3 3",
  gallery: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01",
  jobs: "M5 6h14M5 12h14M5 18h9",
  runs: "M5 5h6v6H5zM13 13h6v6h-6zM13 8h6M5 16h6",
  statement: "M6 3h12v18l-3-2-3 2-3-2-3 2zM9 8h6M9 12h6",
  pool: "M4 7c0-1.7 3.6-3 8-3s8 1.3 8 3-3.6 3-8 3-8-1.3-8-3zM4 7v10c0 1.700 3.600 3 8 3s8-1.300 8-3V7M4 12c0 1.700 3.600 3 8 3s8-1.300 8-3",
  customers: "M9 11a3.500 3.500 0 100-7 3.500 3.500 0 000 7zM3 20c0-3.300 2.700-6 6-6s6 2.700 6 6M16 5a3 3 0 010 6M18 14.500c1.800.8 3 2.600 3 5.500",
  metrics: "M4 4v16h16M8 15l3-4 3 2 5-7",
  system: "M12 8v5M12 16.500h.01M10.300 4.300L2.800 17.500A2 2 0 004.500 20.500h15a2 2 0 001.700-3L13.700 4.300a2 2 0 00-3.400 0z",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6L6 18",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  pin: "M9 4h6l-1 6 3 3v2H7v-2l3-3-1-6zM12 15v6",
  reference: "M4 9V4h5M20 15v5h-5M4 4l7 7M20 20l-7-7",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  brush: "M20 4c-5 2-9 6-11 9l2 2c3-2 7-6 9-11zM9 14c-3 0-3 4-6 5 3 2 8 1 8-3",
  search: "M11 18a7 7 0 100-14 7 7 0 000 14zM16 16l5 5",
  theme: "M12 3a9 9 0 100 18zM12 3a9 9 0 010 18",
  keyboard: "M3 7h18v11H3zM7 11h.01M11 11h.01M15 11h.01M8 15h8",
  leave: "M14 4h5v16h-5M4 12h11M11 8l4 4-4 4",
  plus: "M12 5v14M5 12h14",
  pause: "M8 5v14M16 5v14",
  play: "M7 5l12 7-12 7z",
  undo: "M9 7L4 12l5 5M4 12h10a6 6 0 010 8",
  check: "M5 12l5 5L20 7",
};

/** A line icon that says nothing to a screen reader: the text beside it does. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon; `label` is its name, shown unless `bare`. */
export function button(label, act, { glyph, kind = "", bare = false, ...rest } = {}) {
  return h("button", {
    type: "button", class: `button ${kind} ${bare ? "bare" : ""}`, on: { click: act },
    "aria-label": bare ? label : null, title: bare ? label : null, ...rest,
  }, glyph ? icon(glyph) : null, bare ? null : label);
}

let counter = 0;

/** A labelled field: text before it, a hint below it that a screen reader reads with it. */
export function field(label, control, hint = null) {
  counter += 1;
  control.id ||= `field-${counter}`;
  const note = hint ? h("small", { id: `${control.id}-hint`, class: "hint" }, hint) : null;
  if (note) control.setAttribute("aria-describedby", note.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, note);
}

/** A select of [value, text] pairs. */
export function select(pairs, value, act, attributes = {}) {
  return h("select", { ...attributes, on: { change: (event) => act(event.target.value) } },
    pairs.map(([own, text]) => h("option", { value: own, selected: own === value }, text)));
}
