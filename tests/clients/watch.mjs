// What a browser does with a job: fetch orders it, WebSocket watches it. Prints the types of its events.
const [origin, key] = process.argv.slice(2);
const answer = await fetch(`${origin}/v1/images/generations`, {
  method: "POST",
  headers: { authorization: `Bearer ${key}`, "content-type": "application/json", prefer: "respond-async" },
  body: JSON.stringify({ model: "gpt-image-2-vip", prompt: "a lamp" }),
});
const url = new URL(answer.headers.get("location"), origin.replace("http", "ws"));
const socket = new WebSocket(url, ["safelight.events.v1", `safelight-key.${key}`]);
const types = [];
socket.onmessage = (message) => types.push(JSON.parse(message.data).type);
socket.onclose = (event) => console.log(JSON.stringify({ types, code: event.code, protocol: socket.protocol }));
