# SPDX-License-Identifier: MIT
from django.urls import path

from catalog import views

app_name = "catalog"
urlpatterns = [
    path("page", views.page, name="page"),
]
