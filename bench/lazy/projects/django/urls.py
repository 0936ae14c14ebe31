from django.contrib import admin
from django.http import JsonResponse
from django.urls import path


def home(request):
    return JsonResponse({"path": request.path})


urlpatterns = [path("admin/", admin.site.urls), path("", home)]
