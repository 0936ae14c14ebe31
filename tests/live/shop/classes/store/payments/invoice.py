# SPDX-License-Identifier: MIT
class Invoice:
    def __init__(self, cart):
        self.cart = cart

    def write(self, receipt):
        lines = [f"{count} x {item.name}" for item, count in self.cart.lines]
        return f"{self.cart.user.name}: {', '.join(lines)}; {receipt} EUR"
