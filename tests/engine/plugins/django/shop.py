"""A site for two versions of Django; each has models of its own, which the other cannot load."""
import warnings

import django
from django.conf import settings

VERSION = f"{django.VERSION[0]}.{django.VERSION[1]}"
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=["django.contrib.contenttypes", "store"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF="urls",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    USE_TZ=True,
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    django.setup()


def work(turn, rounds):
    """Queries and requests; TURN() waits for the others. -> the version that has answered each of them"""
    from django.db import connection  # at the call, in whichever thread it is
    from django.test import Client
    from store.models import Item

    with connection.schema_editor() as editor:  # ":memory:" is a database for each thread
        editor.create_model(Item)
    found = []
    for number in range(rounds):
        turn()
        Item.objects.create(name=f"item {number}", kind=number % 2)
        answer = Client().get("/items/")
        assert answer.status_code == 200
        version, names = answer.content.decode().split(": ")
        assert names == ", ".join(f"item {each}" for each in range(number + 1)), names
        found.append(version)
    connection.close()
    return found
