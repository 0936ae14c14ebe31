"""Serves two requests by werkzeug, and shows the answers."""
import logging
import threading
import urllib.request

from app import app
from werkzeug.serving import make_server

logging.getLogger("werkzeug").disabled = True
server = make_server("127.0.0.1", 0, app)
thread = threading.Thread(target=server.serve_forever)
thread.start()
for path in ("/", "/items/7"):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}") as answer:
        print(answer.status, answer.read())
server.shutdown()
thread.join()
server.server_close()
