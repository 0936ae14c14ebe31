# SPDX-License-Identifier: MIT
import store


class Cart:
    def __init__(self, user):
        self.user = user
        self.lines = []

    def add(self, name, count=1):
        self.lines.append((store.Catalog.find(name), count))
        return self

    @property
    def total(self):
        return sum(item.price * count for item, count in self.lines)

    def checkout(self):
        return store.payments.Invoice(self).write(store.payments.HTTPGateway().charge(self))
