# SPDX-License-Identifier: MIT
from proj.version import VERSION


class VersionMiddleware:
    MARK = "first"

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        response = self.get_response(request)
        response["X-Version"] = VERSION
        response["X-Mark"] = self.MARK
        return response
