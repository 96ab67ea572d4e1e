"""Requests to other servers. `requests` and `urllib.request` need sockets, which the component does not have.

The route must list the servers in daylily.toml: allow_http = ["https://api.example.com"].
"""

from urllib.parse import urlsplit

from componentize_py_types import Err
from wit_world.imports import outgoing_handler, types
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import Fields, OutgoingBody, OutgoingRequest


def fetch(url, method="GET", headers=(), body=b""):
    """Sends a request, and returns the status, the header fields (pairs of names and bytes) and the body of the response.

    `headers` are pairs of texts. Without a response, it raises OSError with the reason."""
    place = urlsplit(url)
    fields = [(name.lower(), value.encode("latin-1")) for name, value in headers]
    if body:
        fields.append(("content-length", str(len(body)).encode()))
    request = OutgoingRequest(Fields.from_list(fields))
    known = getattr(types, f"Method_{method.title()}", None)
    request.set_method(known() if known else types.Method_Other(method))
    request.set_scheme(types.Scheme_Https() if place.scheme == "https" else types.Scheme_Http())
    request.set_authority(place.netloc)
    request.set_path_with_query((place.path or "/") + (f"?{place.query}" if place.query else ""))
    try:
        outgoing = request.body()
        future = outgoing_handler.handle(request, None)
        with outgoing.write() as stream:
            for at in range(0, len(body), 4096):
                stream.blocking_write_and_flush(body[at : at + 4096])
        OutgoingBody.finish(outgoing, None)
        with future.subscribe() as ready:
            ready.block()
        result = future.get().value
        if isinstance(result, Err):
            raise result
        with result.value as response, response.consume() as incoming, incoming.stream() as stream:
            return response.status(), response.headers().entries(), read(stream)
    except Err as error:
        raise OSError(f"no response from {place.netloc}: {error.value}") from error


def read(stream):
    content = bytearray()
    try:
        while True:
            content += stream.blocking_read(65536)
    except Err as error:
        if isinstance(error.value, StreamError_Closed):
            return bytes(content)
        raise
