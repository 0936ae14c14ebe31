# SPDX-License-Identifier: MIT
from django.urls import path

from orders import views

urlpatterns = [path("new", views.new)]
