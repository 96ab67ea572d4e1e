// Does one operation on the key-value store `visits`: /OPERATION?via=INTERFACE&key=KEY&value=VALUE.

import { increment } from "wasi:keyvalue/atomics@0.2.0-draft2";
import { increment as incrementByDraft } from "wasi:keyvalue/atomics@0.2.0-draft";
import { open } from "wasi:keyvalue/store@0.2.0-draft2";
import { open as openByDraft } from "wasi:keyvalue/store@0.2.0-draft";
import { Store } from "fermyon:spin/key-value@2.0.0";

const stores = {
  draft2: () => open("visits"),
  draft: () => openByDraft("visits"),
  spin: () => Store.open("visits"),
};

const keys = {
  draft2: (store) => store.listKeys(undefined).keys,
  draft: (store) => store.listKeys(undefined).keys,
  spin: (store) => store.getKeys(),
};

const increments = { draft2: increment, draft: incrementByDraft };

addEventListener("fetch", (event) => event.respondWith(answer(new URL(event.request.url))));

async function answer(url) {
  try {
    return new Response(operation(url.pathname, Object.fromEntries(url.searchParams)));
  } catch (error) {
    const { tag, val } = error.payload ?? { tag: String(error) };
    return new Response(val === undefined ? `error: ${tag}` : `error: ${tag} ${val}`);
  }
}

function operation(path, { via, key, value, bytes }) {
  const store = stores[via]();
  switch (path) {
    case "/get": {
      const found = store.get(key);
      return found === undefined ? "none" : `some ${new TextDecoder().decode(found)}`;
    }
    case "/length":
      return `${store.get(key).length} bytes`;
    case "/set":
      store.set(key, bytes ? new Uint8Array(Number(bytes)) : new TextEncoder().encode(value));
      return "done";
    case "/delete":
      store.delete(key);
      return "done";
    case "/exists":
      return String(store.exists(key));
    case "/keys":
      return keys[via](store).join(",");
    case "/increment":
      return String(increments[via](store, key, BigInt(value)));
    default:
      return `unknown operation ${path}`;
  }
}
