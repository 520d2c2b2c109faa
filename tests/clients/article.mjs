// The programs of the article with the official JavaScript SDK; only address and key are ours.
// Address and key come from OPENAI_BASE_URL and OPENAI_API_KEY, the folder is the first argument.
import fs from "node:fs";
import path from "node:path";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ timeout: 300_000, maxRetries: 2 });
const folder = process.argv[2];
fs.mkdirSync(folder, { recursive: true });

function check(name, data, width, height) {
  fs.writeFileSync(path.join(folder, `${name}.png`), data);
  const found = [data.readUInt32BE(16), data.readUInt32BE(20)];
  if (found[0] !== width || found[1] !== height) {
    throw new Error(`${name}: ${found} instead of ${width},${height}`);
  }
  console.log(`${name}: ${found.join("x")}, ${data.length} bytes`);
}

const made = await client.images.generate({
  model: "gpt-image-2-vip",
  prompt: "Dark tech-style launch visual, neon title 'safelight · Launch'",
  size: "2048x1152",
});
check("a", Buffer.from(made.data[0].b64_json, "base64"), 2048, 1152);

const linked = await client.images.generate({
  model: "gpt-image-2-vip", prompt: "A lamp", size: "1024x1024", response_format: "url",
});
check("b", Buffer.from(await (await fetch(linked.data[0].url)).arrayBuffer()), 1024, 1024);

const edited = await client.images.edit({
  model: "gpt-image-2-vip",
  prompt: "Set the product on the stage, title 'New Arrival'",
  size: "2048x2048",
  image: [
    await toFile(fs.createReadStream(path.join(folder, "a.png")), "a.png", { type: "image/png" }),
    await toFile(fs.createReadStream(path.join(folder, "b.png")), "b.png", { type: "image/png" }),
  ],
});
check("edit", Buffer.from(edited.data[0].b64_json, "base64"), 2048, 2048);

const raw = await client.images.edit({
  model: "gpt-image-2-vip", prompt: "The same at night", size: "1024x1024",
  image: fs.createReadStream(path.join(folder, "b.png")),
});
check("edit-stream", Buffer.from(raw.data[0].b64_json, "base64"), 1024, 1024);

const chat = await client.chat.completions.create({
  model: "gpt-image-2-vip",
  messages: [{ role: "user", content: "A poster with the title '新品上市'" }],
});
const link = /!\[[^\]]*\]\((http[^)]+)\)/.exec(chat.choices[0].message.content);
if (!link) throw new Error(`no picture in ${chat.choices[0].message.content}`);
const answer = await fetch(link[1]);
if (answer.status !== 200 || answer.headers.get("content-type") !== "image/png") {
  throw new Error(`link answered ${answer.status}`);
}
console.log("chat: ok");

let text = "";
const chunks = await client.chat.completions.create({
  model: "gpt-image-2-vip", stream: true,
  messages: [{ role: "user", content: "A poster" }],
});
for await (const chunk of chunks) text += chunk.choices[0]?.delta?.content ?? "";
if (!text.includes("![")) throw new Error(`no picture in the stream: ${text}`);
console.log("chat stream: ok");

const kinds = [];
const events = await client.images.generate({
  model: "gpt-image-2-vip", prompt: "A lamp at night", size: "1024x1024",
  stream: true, partial_images: 2,
});
for await (const event of events) {
  kinds.push(event.type);
  check(`stream-${kinds.length}`, Buffer.from(event.b64_json, "base64"), 1024, 1024);
}
if (kinds.join() !== "image_generation.partial_image,image_generation.partial_image,image_generation.completed") {
  throw new Error(`unexpected events ${kinds}`);
}

for (const [wrong, code, param] of [
  [{ size: "1234x999" }, "invalid_value", "size"],
  [{ quality: "high" }, "unsupported_parameter", "quality"],
  [{ n: 2 }, "unsupported_parameter", "n"],
]) {
  try {
    await client.images.generate({ model: "gpt-image-2-vip", prompt: "A lamp", ...wrong });
  } catch (error) {
    if (!(error instanceof OpenAI.BadRequestError) || error.code !== code || error.param !== param) throw error;
    continue;
  }
  throw new Error(`${JSON.stringify(wrong)} was accepted`);
}
console.log("refusals: ok");
console.log("all programs of the article ran with the JavaScript SDK");
