# SPDX-License-Identifier: MIT
"""Make the project's tables and a few rows."""
import django


def setup():
    django.setup()
    from django.core.management import call_command
    call_command("migrate", run_syncdb=True, verbosity=0)
    from django.apps import apps
    user = apps.get_model("accounts.User").objects.create_superuser("ann", "ann@example.org", "secret")
    item = apps.get_model("catalog.Item").objects.create(name="cup", owner=user, category=apps.get_model("catalog.Category").objects.create(name="kitchen"))
    apps.get_model("orders.Order").objects.create(item=item, buyer=user)
    item.fans.add(user)
    return user
