import { Hono } from "hono";
import { increment } from "wasi:keyvalue/atomics@0.2.0-draft2";
import { getMany } from "wasi:keyvalue/batch@0.2.0-draft2";
import { open } from "wasi:keyvalue/store@0.2.0-draft2";

// Files in public/ are served by daylily itself. All other requests come here, each to a new instance of the program,
// which forgets everything at its end: what is to be remembered is in the store.
const app = new Hono();

const MAX_TITLE = 200;
const MAX_ITEMS = 1000;

// An item is an entry of the store, as JSON. Its key is this prefix and the item's number.
const PREFIX = "item/";

const encode = (item) => new TextEncoder().encode(JSON.stringify(item));
const decode = (bytes) => JSON.parse(new TextDecoder().decode(bytes));

function keys(store) {
  const found = [];
  let cursor;
  do {
    const page = store.listKeys(cursor);
    found.push(...page.keys.filter((key) => key.startsWith(PREFIX)));
    cursor = page.cursor;
  } while (cursor !== undefined);
  return found;
}

app.get("/api/items", (c) => {
  const store = open("todo");
  const found = getMany(store, keys(store)).filter(([, bytes]) => bytes !== undefined);
  const items = found.map(([key, bytes]) => ({ id: Number(key.slice(PREFIX.length)), ...decode(bytes) }));
  return c.json(items.sort((a, b) => a.id - b.id));
});

app.post("/api/items", async (c) => {
  const { title } = await c.req.json().catch(() => ({}));
  if (typeof title !== "string" || title.trim() === "" || title.length > MAX_TITLE) {
    return c.json({ error: `a title has 1 to ${MAX_TITLE} characters` }, 400);
  }
  const store = open("todo");
  if (keys(store).length >= MAX_ITEMS) return c.json({ error: `there are ${MAX_ITEMS} items` }, 409);
  // No other request gets this number, however many run at the same time.
  const id = Number(increment(store, "last-id", 1n));
  const item = { title: title.trim(), done: false };
  store.set(PREFIX + id, encode(item));
  return c.json({ id, ...item }, 201);
});

app.put("/api/items/:id{[0-9]+}", async (c) => {
  const { done } = await c.req.json().catch(() => ({}));
  if (typeof done !== "boolean") return c.json({ error: "`done` is true or false" }, 400);
  const { id } = c.req.param();
  const store = open("todo");
  const bytes = store.get(PREFIX + id);
  if (bytes === undefined) return c.json({ error: "there is no such item" }, 404);
  const item = { ...decode(bytes), done };
  store.set(PREFIX + id, encode(item));
  return c.json({ id: Number(id), ...item });
});

app.delete("/api/items/:id{[0-9]+}", (c) => {
  open("todo").delete(PREFIX + c.req.param("id"));
  return c.body(null, 204);
});

app.notFound((c) => c.json({ error: "there is no such page" }, 404));

// What a handler throws is daylily's: it answers with status 500, and `daylily dev` shows the exception with its stack.
app.onError((error) => {
  throw error;
});

const respond = async (request) => app.fetch(request);

addEventListener("fetch", (event) => event.respondWith(respond(event.request)));
