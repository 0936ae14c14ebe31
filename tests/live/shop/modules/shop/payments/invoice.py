# SPDX-License-Identifier: MIT
import shop


def write(cart, receipt):
    lines = [f"{count} x {item.name}" for item, count in cart.lines]
    return f"{cart.user.name}: {', '.join(lines)}; {receipt} {shop.CURRENCY}"
