# SPDX-License-Identifier: MIT
import os
import pathlib
import time

from django.apps import apps
from django.conf import settings
from django.shortcuts import render

from proj.version import VERSION

TITLE = "title"


def page(request):
    model = apps.get_model("catalog.Item")
    seen = model.VERSION
    if "hold" in request.GET:
        wait_in_the_middle(pathlib.Path(request.GET["hold"]))
    time.sleep(0)
    from orders.forms import OrderForm  # as a template or a string in the settings would lead there
    order = apps.get_model("orders.Order").objects.select_related("item", "buyer").first()
    return render(request, "catalog/page.html", {
        "view": VERSION,
        "model": seen,
        "settings": settings.PROJECT_VERSION,
        "order": order.item.VERSION,
        "form": OrderForm.base_fields["item"].queryset.model.VERSION,
        "label": order.item.label(),
        "greeting": settings.GREETING,
        "users": type(order.buyer).objects.filter(owned__orders__isnull=False).distinct().count(),
    })


def wait_in_the_middle(place):
    """Until somebody makes PLACE/go; that we wait is said by PLACE/waiting."""
    (place / "waiting").touch()
    while not os.path.exists(place / "go"):
        time.sleep(0.005)
