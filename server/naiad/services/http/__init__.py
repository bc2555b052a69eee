"""HTTP/REST: Triton's protocol as JSON and binary tensors, on uvicorn's protocol in the server's own loop.

connection.py   one connection: bounds on heads, chunks, pipelines and time
routes.py       a path to what is asked, pure
application.py  one request: restrictions, drain, the reply or the error
endpoints.py    the calls; infer.py the one call with tensors
body.py         the request's body, bounded; compression.py both ways
infer_json.py, raw_request.py, tensor_data.py, number_text.py   a request's tensors
infer_answer.py an answer's tensors
json_text.py, messages.py   JSON, and protobuf messages as JSON
server.py       the port, opened and closed in order
"""

from naiad.services.http.server import HttpServer
from naiad.services.http.service import Triton
from naiad.services.http.settings import HttpSettings

__all__ = ["HttpServer", "HttpSettings", "Triton"]
