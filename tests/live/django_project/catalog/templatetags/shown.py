# SPDX-License-Identifier: MIT
from django import template

from proj.version import VERSION

register = template.Library()


@register.simple_tag
def tag_version():
    return VERSION


@register.filter
def shown(value):
    return f"[{value}]"
