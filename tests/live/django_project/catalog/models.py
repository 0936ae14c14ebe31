# SPDX-License-Identifier: MIT
from django.conf import settings
from django.db import models

from proj.version import VERSION


class Category(models.Model):
    name = models.CharField(max_length=50)


class Item(models.Model):
    VERSION = VERSION

    name = models.CharField(max_length=50)
    category = models.ForeignKey(Category, models.CASCADE, related_name="items")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, null=True, related_name="owned", limit_choices_to={"is_active": True})
    fans = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="likes")

    def label(self):
        return f"item {self.name}"

    def __str__(self):
        return self.name
