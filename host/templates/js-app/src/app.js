import { Hono } from "hono";
import { streamSSE } from "hono/streaming";
import { getEnvironment } from "wasi:cli/environment@0.2.10";
import { get } from "wasi:config/store@0.2.0-rc.1";

// Files in public/ are served by daylily itself. All other requests come here, each to a new instance of the program.
const app = new Hono();

app.get("/api/greeting", (c) => {
  const { GREETING } = Object.fromEntries(getEnvironment());
  const name = c.req.query("name") || get("subject");
  return c.json({ greeting: `${GREETING}, ${name}!` });
});

app.post("/api/sum", async (c) => {
  const { numbers } = await c.req.json();
  return c.json({ sum: numbers.reduce((sum, number) => sum + number, 0) });
});

// Server-sent events: the page shows each one when it arrives.
app.get("/api/events", (c) =>
  streamSSE(c, async (stream) => {
    for (let count = 1; count <= 5; count++) {
      await stream.writeSSE({ event: "count", data: JSON.stringify({ count, time: new Date().toISOString() }) });
      await stream.sleep(400);
    }
    await stream.writeSSE({ event: "end", data: "" });
  }),
);

app.notFound((c) => c.json({ error: "there is no such page" }, 404));

// What a handler throws is daylily's: it answers with status 500, and `daylily dev` shows the exception with its stack.
app.onError((error) => {
  throw error;
});

const respond = async (request) => app.fetch(request);

addEventListener("fetch", (event) => event.respondWith(respond(event.request)));
