addEventListener("fetch", (event) => {
  event.respondWith(new Response("Hello World\n", { headers: { "content-type": "text/plain" } }));
});
