# SPDX-License-Identifier: MIT
"""A shop that is written without import lines. The convention is the first argument."""
import sys
from pathlib import Path

import ladewerk

here = Path(__file__).resolve().parent
convention = sys.argv[1]
loader = ladewerk.Autoloader("shop", convention="class" if convention == "classes" else "module")
loader.push_dir(here / convention)
loader.collapse(here / convention / "*" / "models")
loader.inflector.inflect({"http_gateway": "HTTPGateway"})
loader.enable_reloading()
loader.setup()


def sell():
    """What a customer gets to see."""
    if convention == "modules":
        import shop
        cart = shop.cart.Cart(shop.user.User("Ada"))
        return shop.checkout(cart.add("tea", 3).add("pot"))
    import store
    return store.Cart(store.User("Ada")).add("tea", 3).add("pot").checkout()


if __name__ == "__main__":
    print(sell())
    if "--all" in sys.argv:
        loader.eager_load()
        print(*sorted(loader.unloadable_names()), sep="\n")
