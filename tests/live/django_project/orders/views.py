# SPDX-License-Identifier: MIT
from django.http import HttpResponse

from orders.forms import OrderForm


def new(request):
    return HttpResponse(OrderForm().as_p())
