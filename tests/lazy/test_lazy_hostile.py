# SPDX-License-Identifier: MIT
"""Programs that mean harm, or do what nobody does: constants that look like ours, collections at every moment, keys and names with code of their own."""
from __future__ import annotations

import pytest

#: Not what lw_lazy_transform() writes (lazy.h), at the end of the constants of a module.
FORGED = {
    "numbers": '("ladewerk.lazy", 1, 5, 6)',
    "format": '("ladewerk.lazy", 1.5, (), ())',
    "large": '("ladewerk.lazy", 10**30, ((0, 0, "alpha", ((None, "alpha"),), False, 1),), (-1, ()))',
    "statement": '("ladewerk.lazy", 1, (5,), (-1, ()))',
    "short": '("ladewerk.lazy", 1, ((0,),), (-1, ()))',
    "slot": '("ladewerk.lazy", 1, ((99, 0, "alpha", ((None, "alpha"),), False, 1),), (99, ()))',
    "kind": '("ladewerk.lazy", 1, (("0", "0", b"alpha", "binds", 7, "1"),), (-1, ()))',
    "nothing": '("ladewerk.lazy", 1, ((0, 0, "alpha", (), False, 1),), (-1, ()))',
    "binds": '("ladewerk.lazy", 1, ((0, 0, "alpha", (("alpha",), 3), False, 1),), (-1, ()))',
    "tree": '("ladewerk.lazy", 1, ((0, 0, "alpha", ((None, "alpha"),), False, 1),), ())',
    "deep": '("ladewerk.lazy", 1, ((0, 0, "alpha", ((None, "alpha"),), False, 1),), (-1, ((2, 5), 4)))',
    "used": '("ladewerk.lazy", 1, ((1, 0, "alpha", ((None, "alpha"),), False, 1),), (1, ()))',
}


def test_constants_that_look_like_a_description(alike):
    """The module goes its way, whatever it has for its last constant: its other constants are what they were."""
    files = {f"forged_{kind}.py": f"y = None\nz = 'text'\nx = {text}\n" for kind, text in FORGED.items()}
    alike(files, "".join(f"import forged_{kind} as m; print(m.y, m.z, m.x)\n" for kind in FORGED))
