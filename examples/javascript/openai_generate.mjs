// One picture from words, and one from that picture: the openai SDK as it is.
//
//     npm install openai
//     export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
//     node openai_generate.mjs
//
// Leaves poster.png (2048x1152) and night.png (1024x1024) in the current folder.
import { createReadStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import OpenAI, { toFile } from "openai";

// A picture takes 30 to 200 seconds. The SDK's own retries join the order, so nothing is paid twice.
const client = new OpenAI({ timeout: 300_000, maxRetries: 2 });

const { data: made, response } = await client.images
  .generate({
    model: "gpt-image-2-vip",
    prompt: 'Launch poster in red light, large title "SAFELIGHT 安全灯"',
    size: "2048x1152",
  })
  .withResponse();
await writeFile("poster.png", Buffer.from(made.data[0].b64_json, "base64"));
console.log(`poster.png: ${response.headers.get("x-safelight-size-plan")}, job ${response.headers.get("x-safelight-job-id")}`);

const edited = await client.images.edit({
  model: "gpt-image-2-vip",
  prompt: 'The same poster at night, title "NIGHT"',
  image: await toFile(createReadStream("poster.png"), "poster.png", { type: "image/png" }),
  size: "1024x1024",
});
await writeFile("night.png", Buffer.from(edited.data[0].b64_json, "base64"));
console.log("night.png");
