// A picture while it is made: two partial pictures, then the whole one.
//
//     npm install openai
//     export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
//     node openai_stream.mjs
//
// Leaves partial-1.png, partial-2.png and lamp.png in the current folder.
import { writeFile } from "node:fs/promises";
import OpenAI from "openai";

const client = new OpenAI({ timeout: 300_000 });
const events = await client.images.generate({
  model: "gpt-image-2-vip",
  prompt: "A lamp on a table",
  size: "1024x1024",
  stream: true,
  partial_images: 2,
});
for await (const event of events) {
  const partial = event.type === "image_generation.partial_image";
  if (!partial && event.type !== "image_generation.completed") continue;
  const name = partial ? `partial-${event.partial_image_index + 1}.png` : "lamp.png";
  await writeFile(name, Buffer.from(event.b64_json, "base64"));
  console.log(name);
}
