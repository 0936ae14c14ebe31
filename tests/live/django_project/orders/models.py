# SPDX-License-Identifier: MIT
from django.conf import settings
from django.db import models


class Order(models.Model):
    item = models.ForeignKey("catalog.Item", models.CASCADE, related_name="orders")
    buyer = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="orders")
    others = models.ManyToManyField("catalog.Item", related_name="other_orders")
