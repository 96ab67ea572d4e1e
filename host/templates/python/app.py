"""The program, as a WSGI application. An application of Flask, Bottle or Django is one, too (see README.md)."""

import json
import os

from wit_world.imports import store


def application(environ, start_response):
    """Answers one request. Each request runs in a new instance of the program: what it changes in a variable is gone for
    the next request."""
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    print(method, path)  # goes to daylily's log

    if path == "/":
        start_response("200 OK", [("content-type", "text/plain; charset=utf-8")])
        return [f"{os.environ['GREETING']} from {store.get('subject')}\n".encode()]
    if path == "/api/sum" and method == "POST":
        numbers = json.load(environ["wsgi.input"])["numbers"]
        start_response("200 OK", [("content-type", "application/json")])
        return [json.dumps({"sum": sum(numbers)}).encode()]
    start_response("404 Not Found", [("content-type", "text/plain")])
    return [b"there is no such page\n"]
