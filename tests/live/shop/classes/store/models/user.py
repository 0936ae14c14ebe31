# SPDX-License-Identifier: MIT
import store


class User(store.Person):
    pass
