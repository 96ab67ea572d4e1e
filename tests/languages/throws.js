// Throws an exception that nothing catches.

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));

async function answer(request) {
  return cart(new URL(request.url).pathname);
}

function cart(path) {
  throw new TypeError(`the cart of ${path} is empty`);
}
