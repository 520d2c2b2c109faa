// The mask brush. Owns a canvas of exactly the picture's pixels on which strokes are painted, and
// makes of it what the images API wants: a PNG that is transparent where the picture may change
// (OpenAI images API, edits, `mask`).

import { button, h } from "./dom.js";
import { T } from "./texts.js";
import { dialog } from "./ui.js";

const STROKE = "#ff3d1f";
const UNDO_MOST = 20;

/** Let somebody paint over a picture. Resolves with a PNG, null for none, undefined when left. */
export async function paintMask(address, before) {
  const picture = new Image();
  picture.src = address;
  await picture.decode();
  const canvas = h("canvas", { class: "mask-canvas", tabindex: "0", role: "img", "aria-label": T.mask.canvas });
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  if (before) await load(pen, before);
  const brush = new Brush(canvas, pen);
  return dialog(T.mask.title, (close) => [
    h("p", { class: "hint" }, T.mask.lead),
    h("div", { class: "mask-stage", style: { "aspect-ratio": `${canvas.width} / ${canvas.height}`, "--ratio": `${canvas.width / canvas.height}` } }, h("img", { src: address, alt: "" }), canvas),
    h("div", { class: "row" },
      h("label", { class: "row grow" }, T.mask.size, h("input", { type: "range", min: 1, max: 100, value: brush.size, on: { input: (event) => { brush.size = Number(event.target.value); } } })),
      button(T.mask.erase, (event) => {
        brush.erasing = !brush.erasing;
        event.currentTarget.setAttribute("aria-pressed", String(brush.erasing));
      }, { "aria-pressed": "false" }),
      button(T.mask.undo, () => brush.undo(), { glyph: "undo" }),
      button(T.mask.invert, () => brush.invert()),
      button(T.mask.clear, () => brush.clear())),
    h("div", { class: "foot" }, button(T.cancel, () => close()), button(T.mask.done, async () => close(await export_(canvas, pen)), { kind: "primary" })),
  ], { wide: true });
}

class Brush {
  constructor(canvas, pen) {
    this.canvas = canvas;
    this.pen = pen;
    this.size = 28;
    this.erasing = false;
    this.history = [];
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.last && this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, () => { this.last = null; });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  remember() {
    this.history.push(this.pen.getImageData(0, 0, this.canvas.width, this.canvas.height));
    if (this.history.length > UNDO_MOST) this.history.shift();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) * this.canvas.width / box.width, (event.clientY - box.top) * this.canvas.height / box.height];
  }

  down(event) {
    if (event.button !== 0) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.remember();
    this.last = this.place(event);
    this.line(this.last, this.last);
  }

  move(event) {
    const to = this.place(event);
    this.line(this.last, to);
    this.last = to;
  }

  line([x, y], [toX, toY]) {
    const { pen } = this;
    pen.globalCompositeOperation = this.erasing ? "destination-out" : "source-over";
    pen.strokeStyle = STROKE;
    pen.lineCap = "round";
    pen.lineWidth = Math.max(2, this.size / 200 * Math.min(this.canvas.width, this.canvas.height));
    pen.beginPath();
    pen.moveTo(x, y);
    pen.lineTo(toX, toY);
    pen.stroke();
  }

  // Without a pointer the arrows move a spot, and the space bar paints there.
  key(event) {
    const step = Math.min(this.canvas.width, this.canvas.height) / 40;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    this.spot ??= [this.canvas.width / 2, this.canvas.height / 2];
    if (event.key === " ") {
      this.remember();
      this.line(this.spot, this.spot);
    } else if (moves[event.key]) {
      const before = this.spot;
      this.spot = [before[0] + moves[event.key][0], before[1] + moves[event.key][1]];
      if (event.shiftKey) this.line(before, this.spot);
    } else return;
    event.preventDefault();
  }

  undo() {
    const before = this.history.pop();
    if (before) this.pen.putImageData(before, 0, 0);
  }

  clear() {
    this.remember();
    this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
  }

  invert() {
    this.remember();
    this.pen.globalCompositeOperation = "xor";
    this.pen.fillStyle = STROKE;
    this.pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }
}

/** Strokes become holes in black. Null where nothing was painted. */
async function export_(canvas, pen) {
  const strokes = pen.getImageData(0, 0, canvas.width, canvas.height);
  let painted = false;
  for (let at = 3; at < strokes.data.length; at += 4) {
    const free = strokes.data[at] > 127;
    painted ||= free;
    strokes.data[at - 3] = 0;
    strokes.data[at - 2] = 0;
    strokes.data[at - 1] = 0;
    strokes.data[at] = free ? 0 : 255;
  }
  if (!painted) return null;
  const target = h("canvas");
  target.width = canvas.width;
  target.height = canvas.height;
  target.getContext("2d").putImageData(strokes, 0, 0);
  return new Promise((resolve) => { target.toBlob(resolve, "image/png"); });
}

/** Show an earlier mask again as strokes. */
async function load(pen, mask) {
  const { width, height } = pen.canvas;
  pen.drawImage(await createImageBitmap(mask), 0, 0);
  const data = pen.getImageData(0, 0, width, height);
  for (let at = 0; at < data.data.length; at += 4) {
    const free = data.data[at + 3] < 128;
    [data.data[at], data.data[at + 1], data.data[at + 2]] = [255, 61, 31];
    data.data[at + 3] = free ? 255 : 0;
  }
  pen.putImageData(data, 0, 0);
}
