# SPDX-License-Identifier: MIT
def charge(cart):
    return f"charged {cart.total}"
