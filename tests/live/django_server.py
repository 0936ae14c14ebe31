# SPDX-License-Identifier: MIT
"""A Django project served by a threaded WSGI server, reloaded by ladewerk.watch(). Run in a copy of django_project; each line of its output is JSON."""
import json
import os
import pathlib
import sys
import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

os.environ["DJANGO_SETTINGS_MODULE"] = "proj.settings"
os.environ["PROJECT_DB"] = str(pathlib.Path.cwd() / "db.sqlite3")
sys.path.insert(0, str(pathlib.Path.cwd()))

import ladewerk  # noqa: E402
from ladewerk import _live  # noqa: E402
from ladewerk._reload._pins import GATE  # noqa: E402
from setup_project import setup  # noqa: E402


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64


class Quiet(WSGIRequestHandler):
    def log_message(self, *args):
        pass


def tell(**what):
    with lock:
        print(json.dumps(what), flush=True)


def on_change(done):
    if isinstance(done, ladewerk.ReloadError):
        tell(error=str(done))
    else:
        tell(executed=done.executed, removed=done.removed)


def closed(start_response):
    """Whether somebody waits to swap; not pinned itself."""
    pin = _live.Pin(GATE)
    entered = pin.try_enter()
    if entered:
        pin.__exit__()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"open" if entered else b"closed"]


def application(environ, start_response):
    if environ["PATH_INFO"] == "/closed":
        return closed(start_response)
    if "unpinned" in environ["QUERY_STRING"]:  # the control
        return django_application(environ, start_response)
    return pinned_application(environ, start_response)


def cookie(user):
    """Of a session in which USER is logged in."""
    from django.test import Client
    client = Client()
    client.force_login(user)
    return client.cookies["sessionid"].value


lock = threading.Lock()
ann = setup()
from django.core.wsgi import get_wsgi_application  # noqa: E402

django_application = get_wsgi_application()
pinned_application = ladewerk.pinned.wsgi(django_application)
with make_server("127.0.0.1", 0, application, Server, Quiet) as server, ladewerk.watch(on_change, roots=[pathlib.Path.cwd()], patience=300):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    tell(port=server.server_port, session=cookie(ann))
    sys.stdin.read()  # until the test has closed it
    server.shutdown()
