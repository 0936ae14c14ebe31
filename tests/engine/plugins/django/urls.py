import django
from django.http import HttpResponse
from django.template import engines
from django.urls import path
from store import models


def items(request):
    template = engines["django"].from_string("{{ version }}: {{ items|join:', ' }}")
    return HttpResponse(template.render({"version": django.__version__, "items": models.Item.objects.order_by("id")}))


urlpatterns = [path("items/", items)]
