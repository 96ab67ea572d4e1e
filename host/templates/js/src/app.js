import { getEnvironment } from "wasi:cli/environment@0.2.10";
import { get } from "wasi:config/store@0.2.0-rc.1";

addEventListener("fetch", (event) => event.respondWith(respond(event.request)));

// Each request runs in a new instance of the program: what it changes in a variable is gone for the next request.
async function respond(request) {
  const { pathname } = new URL(request.url);
  const env = Object.fromEntries(getEnvironment());
  console.log(`${request.method} ${pathname}`); // goes to daylily's log

  if (pathname === "/") {
    return new Response(`${env.GREETING} from ${get("subject")}\n`);
  }
  if (pathname === "/api/sum" && request.method === "POST") {
    const { numbers } = await request.json();
    return Response.json({ sum: numbers.reduce((sum, number) => sum + number, 0) });
  }
  return new Response("there is no such page\n", { status: 404 });
}
