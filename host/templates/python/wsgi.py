"""Runs the WSGI application of app.py for requests of wasi:http 0.2. The component is built from this module."""

import encodings.idna  # Flask uses it by name. What is not imported at build time is not in the component.
import io
import itertools
import os
import sys
from urllib.parse import unquote_to_bytes

from componentize_py_types import Err, Ok
from wit_world import exports
from wit_world.imports.environment import get_environment
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam

from app import application

# Each line that the program prints goes to daylily's log at once.
sys.stdout.reconfigure(line_buffering=True)


class RequestBody(io.RawIOBase):
    """The body of the request, which is read while it arrives."""

    def __init__(self, stream):
        self.stream = stream

    def readable(self):
        return True

    def readinto(self, buffer):
        try:
            data = self.stream.blocking_read(len(buffer))
        except Err as error:
            if isinstance(error.value, StreamError_Closed):
                return 0
            raise OSError("the body of the request is incomplete") from error
        buffer[: len(data)] = data
        return len(data)


def environ_of(request: IncomingRequest, body: io.RawIOBase) -> dict:
    method = request.method()
    path, _, query = (request.path_with_query() or "/").partition("?")
    host = request.authority() or "localhost"
    name, _, port = host.rpartition(":") if host.rpartition(":")[2].isdigit() else (host, ":", "80")
    environ = {
        "REQUEST_METHOD": getattr(method, "value", type(method).__name__.removeprefix("Method_").upper()),
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": host,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BufferedReader(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": True,
    }
    for field, value in request.headers().entries():
        key = field.upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        separator = "; " if field == "cookie" else ", "
        text = value.decode("latin-1")
        environ[key] = f"{environ[key]}{separator}{text}" if key in environ else text
    return environ


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        os.environ.update(get_environment())
        head, written = [], []

        def start_response(status, headers, exc_info=None):
            head[:] = [int(status.split(" ")[0]), [(name.lower(), value.encode("latin-1")) for name, value in headers]]
            return written.append

        # In this order: a stream is part of its body, and that is part of the request.
        with request, request.consume() as incoming, incoming.stream() as stream:
            result = application(environ_of(request, RequestBody(stream)), start_response)
            chunks = iter(result)
            # An application may call start_response as late as here.
            first = next(chunks, b"")
            response = OutgoingResponse(Fields.from_list(head[1]))
            response.set_status_code(head[0])
            body = response.body()
            ResponseOutparam.set(response_out, Ok(response))
            with body.write() as output:
                for chunk in itertools.chain(written, [first], chunks):
                    for at in range(0, len(chunk), 4096):
                        output.blocking_write_and_flush(chunk[at : at + 4096])
            OutgoingBody.finish(body, None)
            if hasattr(result, "close"):
                result.close()
