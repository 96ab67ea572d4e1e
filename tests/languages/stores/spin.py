# As app.py, with Spin's SDK: the asynchronous interface, which `via=spin3` names, and a variable.

from urllib.parse import parse_qs, urlsplit

from componentize_py_types import Err
from spin_sdk import http, key_value, variables
from spin_sdk.http import Response


class HttpHandler(http.Handler):
    async def handle_request(self, request):
        url = urlsplit(request.uri)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        try:
            text = await operation(url.path, **query)
        except Err as error:
            name = type(error.value).__name__.removeprefix("Error_")
            text = f"error: {name} {getattr(error.value, 'value', '')}"
        return Response(200, {"content-type": "text/plain"}, text.encode())


async def operation(path, via, key="", value="", bytes=None):
    if path == "/var":
        return await variables.get(key)
    with await key_value.open("visits") as store:
        match path:
            case "/get":
                found = await store.get(key)
                return "none" if found is None else f"some {found.decode()}"
            case "/length":
                return f"{len(await store.get(key))} bytes"
            case "/set":
                await store.set(key, b"\0" * int(bytes) if bytes else value.encode())
                return "done"
            case "/delete":
                await store.delete(key)
                return "done"
            case "/exists":
                return str(await store.exists(key)).lower()
            case "/keys":
                stream, end = await store.get_keys()
                keys = []
                with stream:
                    while not stream.writer_dropped:
                        keys += await stream.read(100)
                await end.read()
                return ",".join(keys)
            case _:
                return f"unknown operation {path}"
