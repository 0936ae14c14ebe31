# SPDX-License-Identifier: MIT
"""Django: what the adapter does, check by check in one process; and a project that is edited on disk while a threaded server, under load, answers from one version at a time."""
import contextlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from harness import environment, settle

pytest.importorskip("django", reason="there is no django for this interpreter")

HERE = Path(__file__).resolve().parent
LONG = os.environ.get("LADEWERK_LONG", "0") != "0"
PATIENCE = 120  # seconds, for what is waited for


# --- one process ---

TEXT = (HERE / "django_checks.py").read_text()
CHECKS = re.findall(r"^@check\ndef (test_\w+)", TEXT, re.MULTILINE)
CHECKS += [f"test_failure_in_{name}_changes_nothing" for name in re.findall(r'^    "(\w+)": \[\("', TEXT, re.MULTILINE)]


def project(base):
    shutil.copytree(HERE / "django_project", base / "project", ignore=shutil.ignore_patterns("__pycache__"))
    settle()
    settle()
    return base / "project"


def start(program, root, *arguments, ladewerk=True, **more):
    env = environment(ladewerk=ladewerk, PYTHONDONTWRITEBYTECODE="1", LADEWERK_CACHE=root.parent / "cache")
    return subprocess.Popen([sys.executable, HERE / program, *arguments], cwd=root, env=env, text=True, stdout=subprocess.PIPE, **more)


def checked(base, *arguments, **more):
    child = start("django_checks.py", project(base), *arguments, stderr=subprocess.PIPE, **more)
    out, err = child.communicate(timeout=300)
    assert child.returncode == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return checked(tmp_path_factory.mktemp("checks"))


@pytest.mark.parametrize("name", CHECKS)
def test_check(results, name):
    assert results.keys() == set(CHECKS)
    assert results[name] is None, results[name]


def test_control_without_the_adapter(tmp_path):
    """Nothing of what a model, the settings, an admin class or a receiver is to Django follows."""
    wanted = ["test_settings", "test_receivers", "test_admin", "test_orm_over_apps"]
    found = checked(tmp_path, "without", *wanted)
    assert {name for name in wanted if found[name]} == set(wanted), found


# --- a server ---


class Served:
    """The project, served and under load."""

    def __init__(self, root):
        self.root = root
        self.child = start("django_server.py", root, stdin=subprocess.PIPE)
        first = json.loads(self.child.stdout.readline())
        self.port, self.session = first["port"], first["session"]
        self.told, self.faults, self.answers = [], [], [0] * 4
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._listen, daemon=True)]
        self.load = [threading.Thread(target=self._load, args=(number,), daemon=True) for number in range(4)]
        for thread in (*self.threads, *self.load):
            thread.start()

    def _listen(self):
        for line in self.child.stdout:
            self.told.append(json.loads(line))

    def get(self, path):
        """(status, headers, text)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path, headers={"Cookie": f"sessionid={self.session}"})
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    def page(self, query=""):
        """What the page says: name -> text."""
        status, headers, text = self.get("/page" + query)
        assert status == 200, (status, text[:2000])
        return {**dict(re.findall(r"(\w+)=(\[.*?\]|\S+)", text)), "header": headers["X-Version"], "mark": headers["X-Mark"]}

    def _load(self, number):
        while not self.stopping.is_set():
            try:
                found = self.page()
                if len(versions(found)) != 1:
                    self.faults.append(found)
            except Exception as error:
                self.faults.append(repr(error))
                return
            self.answers[number] += 1
            time.sleep(0.01)

    def until(self, what):
        """Wait for WHAT() to be true; -> what it is."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            found = what()
            if found:
                return found
            assert self.child.poll() is None and not self.faults, self.faults[:3]
            time.sleep(0.01)
        raise AssertionError(("it did not come", self.told[-3:]))

    def edit(self, name, *changes):
        """Save as editors do: by rename."""
        path = self.root / name
        text = path.read_text()
        for old, new in changes:
            assert old in text, (name, old)
            text = text.replace(old, new)
        self.write(name, text)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".new")
        temporary.write_text(text)
        temporary.rename(path)

    @contextlib.contextmanager
    def failing(self, name, *changes):
        """An edit that cannot be loaded: it is said, and nothing has changed. Then it is taken back."""
        before, page = (self.root / name).read_text(), self.page()
        count = len(self.told)
        self.edit(name, *changes)
        yield self.until(lambda: next((each["error"] for each in self.told[count:] if "error" in each), None))
        assert self.page() == page
        self.write(name, before)

    def stop(self):
        self.stopping.set()
        for thread in self.load:
            thread.join(PATIENCE)
        self.child.stdin.close()
        assert self.child.wait(PATIENCE) == 0


def versions(page):
    return {page[key] for key in ("view", "model", "tag", "settings", "order", "form", "header")}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    server = Served(project(tmp_path_factory.mktemp("served")))
    try:
        yield server
    finally:
        server.child.kill()
        server.child.wait()


def test_every_answer_is_of_one_version(served):
    """While all is edited: each edit is live at last, those that fail change nothing, and no thread that asks meanwhile gets two versions in one answer."""
    served.until(lambda: all(served.answers))
    for version in range(1, 30 if LONG else 5):
        served.edit("proj/version.py", (f"VERSION = {version - 1}", f"VERSION = {version}"))
        served.until(lambda: served.page()["view"] == str(version))
        assert versions(served.page()) == {str(version)}
    with served.failing("catalog/models.py", ("def label(self):", "def label(self:")) as error:
        assert "catalog.models" in error and "SyntaxError" in error
    served.edit("catalog/models.py", ('f"item {', 'f"thing {'))
    served.until(lambda: served.page()["label"] == "[thing cup]")
    with served.failing("catalog/views.py", ("from django.shortcuts", "from django.nowhere")) as error:
        assert "catalog.views" in error
    served.edit("catalog/views.py", ('"greeting": settings', '"greeting": "dear" + settings'))
    served.until(lambda: served.page()["greeting"] == "dearhello")
    with served.failing("catalog/templatetags/shown.py", ("register = template", "register = nothing")) as error:
        assert "catalog.templatetags.shown" in error
    served.edit("catalog/templatetags/shown.py", ('f"[{value}]"', 'f"[({value})]"'))
    served.until(lambda: served.page()["label"] == "[(thing cup)]")
    with served.failing("proj/settings.py", ('"hello"', "1 / 0")) as error:
        assert "proj.settings" in error and "ZeroDivisionError" in error
    served.edit("proj/settings.py", ('"hello"', '"bye"'))
    served.until(lambda: served.page()["greeting"] == "dearbye")
    served.write("proj/extra.py", 'WORD = "imported"\n')
    served.edit("proj/settings.py", ('GREETING = "bye"', "from proj.extra import WORD as GREETING"))
    served.until(lambda: served.page()["greeting"] == "dearimported")
    served.edit("proj/extra.py", ("imported", "again"))
    served.until(lambda: served.page()["greeting"] == "dearagain")
    with served.failing("orders/urls.py", ("views.new", "views.old")) as error:
        assert "orders.urls" in error
    served.edit("orders/urls.py", ('"new"', '"create"'))
    served.until(lambda: served.get("/orders/create")[0] == 200)
    assert served.get("/orders/new")[0] == 404
    served.edit("orders/forms.py", ('["item"]', '["item", "buyer"]'))
    served.until(lambda: 'name="buyer"' in served.get("/orders/create")[2])
    with served.failing("proj/settings.py", ("proj.middleware.Version", "proj.middleware.Nothing")) as error:
        assert "Nothing" in error
    served.edit("proj/middleware.py", ('"first"', '"second"'))
    served.until(lambda: served.page()["mark"] == "second")
    served.edit("catalog/admin.py", ('["name"]', '["name", "owner"]'))
    served.until(lambda: "ann" in re.sub(r"(?s).*<tbody>", "", served.get("/admin/catalog/item/")[2]))
    assert "/admin/orders/order/" in served.get("/admin/")[2]
    an_app_comes_and_goes(served)
    served.until(lambda: min(served.answers) > 5)
    assert not served.faults, served.faults[:3]


BLOG = {
    "blog/__init__.py": "",
    "blog/models.py": "from django.db import models\n\n\nclass Post(models.Model):\n    about = models.ForeignKey('catalog.Item', models.CASCADE)\n",
    "blog/admin.py": "from django.contrib import admin\n\nfrom blog.models import Post\n\nadmin.site.register(Post)\n",
    "blog/views.py": "from django.http import HttpResponse\n\nfrom blog.models import Post\nfrom proj.version import VERSION\n\n\ndef posts(request):\n"
                     "    return HttpResponse(f'{Post.about.field.related_model.VERSION} {VERSION} {Post._meta.label}')\n",
    "blog/urls.py": "from django.urls import path\n\nfrom blog import views\n\nurlpatterns = [path('', views.posts)]\n",
}


def an_app_comes_and_goes(served):
    for name, text in BLOG.items():
        served.write(name, text)
    served.edit("proj/settings.py", ('    "catalog",', '    "catalog",\n    "blog",'))
    served.edit("proj/urls.py", ("urlpatterns = [", 'urlpatterns = [\n    path("blog/", include("blog.urls")),'))
    status, _, text = served.until(lambda: (got := served.get("/blog/"))[0] == 200 and got)
    assert text.split()[0] == text.split()[1] == served.page()["view"] and "blog.Post" in text
    assert "/admin/blog/post/" in served.get("/admin/")[2]
    served.edit("proj/urls.py", ('\n    path("blog/", include("blog.urls")),', ""))
    served.edit("proj/settings.py", ('\n    "blog",', ""))
    served.until(lambda: served.get("/blog/")[0] == 404 and "/admin/blog/" not in served.get("/admin/")[2])
    shutil.rmtree(served.root / "blog")
    served.edit("catalog/models.py", ('f"thing {', 'f"last {'))
    served.until(lambda: served.page()["label"] == "[(last cup)]")


def held(served, query, until):
    """An answer during which all is edited: what it says."""
    place = served.root / query.partition("&")[0].strip("?")
    place.mkdir()
    found = []
    thread = threading.Thread(target=lambda: found.append(served.page(f"{query}&hold={place}")))
    thread.start()
    served.until(lambda: (place / "waiting").exists())
    now = int(served.page()["view"])
    count = len(served.told)
    served.edit("proj/version.py", (f"VERSION = {now}", f"VERSION = {now + 1}"))
    served.until(lambda: until(count))
    (place / "go").touch()
    thread.join(PATIENCE)
    served.until(lambda: served.page()["view"] == str(now + 1))
    return found[0]


def test_an_answer_that_has_begun_is_finished_in_its_version(served):
    page = held(served, "?pinned", lambda count: served.get("/closed")[2] == "closed")
    assert len(versions(page)) == 1


def test_the_control_without_a_pin(served):
    page = held(served, "?unpinned", lambda count: any("proj.version" in each.get("executed", ()) for each in served.told[count:]))
    assert len(versions(page)) > 1


def test_the_server_ends_well(served):
    served.stop()
    assert not served.faults, served.faults[:3]
