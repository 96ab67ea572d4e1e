# Does one operation on the key-value store `visits`: /OPERATION?via=INTERFACE&key=KEY&value=VALUE.

from urllib.parse import parse_qs, urlsplit

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports import key_value as spin
from wit_world.imports import wasi_keyvalue_atomics_0_2_0_draft as atomics_draft
from wit_world.imports import wasi_keyvalue_atomics_0_2_0_draft2 as atomics_draft2
from wit_world.imports import wasi_keyvalue_store_0_2_0_draft as store_draft
from wit_world.imports import wasi_keyvalue_store_0_2_0_draft2 as store_draft2
from wit_world.imports.types import Fields, OutgoingBody, OutgoingResponse, ResponseOutparam

STORES = {"draft2": store_draft2.open, "draft": store_draft.open, "spin": spin.Store.open}
INCREMENTS = {"draft2": atomics_draft2.increment, "draft": atomics_draft.increment}


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        url = urlsplit(request.path_with_query())
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        try:
            text = operation(url.path, **query)
        except Err as error:
            name = type(error.value).__name__.removeprefix("Error_")
            text = f"error: {name} {getattr(error.value, 'value', '')}"
        response = OutgoingResponse(Fields())
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            stream.blocking_write_and_flush(text.encode())
        OutgoingBody.finish(body, None)


def operation(path, via, key="", value="", bytes=None):
    store = STORES[via]("visits")
    match path:
        case "/get":
            found = store.get(key)
            return "none" if found is None else f"some {found.decode()}"
        case "/length":
            return f"{len(store.get(key))} bytes"
        case "/set":
            store.set(key, b"\0" * int(bytes) if bytes else value.encode())
            return "done"
        case "/delete":
            store.delete(key)
            return "done"
        case "/exists":
            return str(store.exists(key)).lower()
        case "/keys":
            return ",".join(store.get_keys() if via == "spin" else store.list_keys(None).keys)
        case "/increment":
            return str(INCREMENTS[via](store, key, int(value)))
        case _:
            return f"unknown operation {path}"
