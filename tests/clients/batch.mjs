// A batch with the official JavaScript SDK: an edit by file_id, a generation, and a line that is refused.
// Address and key come from OPENAI_BASE_URL and OPENAI_API_KEY, the folder is the first argument.
import fs from "node:fs";
import path from "node:path";
import OpenAI from "openai";

const client = new OpenAI({ timeout: 300_000, maxRetries: 2 });
const folder = process.argv[2];
fs.mkdirSync(folder, { recursive: true });

async function finished(endpoint, bodies) {
  const file = path.join(folder, "in.jsonl");
  const lines = bodies.map((body, at) =>
    JSON.stringify({ custom_id: `item-${at}`, method: "POST", url: endpoint, body: { model: "gpt-image-2-vip", ...body } }));
  fs.writeFileSync(file, lines.join("\n"));
  const sent = await client.files.create({ file: fs.createReadStream(file), purpose: "batch" });
  let batch = await client.batches.create({
    input_file_id: sent.id, endpoint, completion_window: "24h", metadata: { from: "javascript" },
  });
  while (!["completed", "failed", "expired", "cancelled"].includes(batch.status)) {
    await new Promise((resolve) => setTimeout(resolve, 300));
    batch = await client.batches.retrieve(batch.id);
  }
  if (batch.status !== "completed") throw new Error(JSON.stringify(batch));
  return batch;
}

async function linesOf(id) {
  const text = await (await client.files.content(id)).text();
  return text.trim().split("\n").map((line) => JSON.parse(line));
}

const first = await finished("/v1/images/generations", [
  { prompt: "a lamp", size: "1024x1024", response_format: "b64_json" },
  { prompt: "a lamp", size: "7x7" },
]);
const { total, completed, failed } = first.request_counts;
if (total !== 2 || completed !== 1 || failed !== 1) throw new Error(JSON.stringify(first.request_counts));
const [made] = await linesOf(first.output_file_id);
const picture = Buffer.from(made.response.body.data[0].b64_json, "base64");
if (picture.readUInt32BE(16) !== 1024) throw new Error("the picture is not 1024 wide");
const [refused] = await linesOf(first.error_file_id);
if (refused.response.status_code !== 400) throw new Error(JSON.stringify(refused));
console.log("generations: ok");

fs.writeFileSync(path.join(folder, "lamp.png"), picture);
const source = await client.files.create({
  file: fs.createReadStream(path.join(folder, "lamp.png")), purpose: "user_data",
});
const second = await finished("/v1/images/edits", [
  { prompt: "the same at night", size: "2048x1152", images: [{ file_id: source.id }] },
]);
const [edited] = await linesOf(second.output_file_id);
const answer = await fetch(edited.response.body.data[0].url);
if (answer.status !== 200 || answer.headers.get("content-type") !== "image/png") {
  throw new Error(`link answered ${answer.status}`);
}
for await (const file of client.files.list({ purpose: "batch_output" })) await client.files.delete(file.id);
console.log("edits: ok");
