# SPDX-License-Identifier: MIT
from django.apps import AppConfig


class OrdersConfig(AppConfig):
    name = "orders"

    def ready(self):
        from django.db.models.signals import post_save

        from orders import receivers
        post_save.connect(receivers.saved, dispatch_uid="orders.saved")
