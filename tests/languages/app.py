# Raises an exception that nothing catches.

from wit_world import exports


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request, response_out):
        cart(request.path_with_query())


def cart(path):
    raise LookupError(f"the cart of {path} is empty")
