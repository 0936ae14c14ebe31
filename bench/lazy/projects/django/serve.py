"""Serves one request by wsgiref, and shows the answer."""
import os
import threading
import urllib.request
from wsgiref.simple_server import WSGIRequestHandler, make_server

from django.core.wsgi import get_wsgi_application


class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments):
        pass


os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
server = make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet)
thread = threading.Thread(target=server.handle_request)
thread.start()
with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/admin/login/") as answer:
    print(answer.status, b"Log in" in answer.read())
thread.join()
server.server_close()
