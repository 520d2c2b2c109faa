// The Vercel AI SDK: its OpenAI provider takes the gateway's address.
//
//     npm install ai @ai-sdk/openai
//     export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=...
//     node vercel_ai.mjs
//
// Leaves lamp.png (2048x1152) in the current folder.
import { writeFile } from "node:fs/promises";
import { createOpenAI } from "@ai-sdk/openai";
import { generateImage } from "ai";

const gateway = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY });
const { image } = await generateImage({
  model: gateway.image("gpt-image-2-vip"),
  prompt: "A lamp on a table",
  size: "2048x1152",
  abortSignal: AbortSignal.timeout(300_000),
});
await writeFile("lamp.png", image.uint8Array);
console.log("lamp.png");
