# SPDX-License-Identifier: MIT
from django.contrib import admin

from catalog.models import Category, Item

admin.site.register(Category)


@admin.register(Item)
class ItemAdmin(admin.ModelAdmin):
    list_display = ["name"]
