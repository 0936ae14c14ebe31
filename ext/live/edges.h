/* SPDX-License-Identifier: MIT */
/*
 * edges: the imports that a code object and those within it would make, read from their bytecode. Nothing is executed.
 *
 * When an import happens is told by where it stands:
 *
 *     module        whenever the module's body runs to its end
 *     conditional   the body may go on without it: below `if`, in a loop, in a `try` or `with` block whose exceptions may be caught, in an `except` clause
 *     lazy          when the name is first used (`lazy import`, 3.15)
 *     function      when some function is called
 *     typing        never: below `if TYPE_CHECKING`
 *     observed      it has happened: not from code, but from the report of a run
 *
 * The body of a class counts as where the class statement stands. An instruction is passed whenever the body runs to its end if no jump, no return, and no
 * exception that is caught leads from before it to behind it. So `module` is certain, and where the compiler has laid out code in an unusual way an import may
 * be called conditional that is not.
 *
 * Import statements are found, and calls of `__import__("x")`, `import_module("x")` and `import_module(".x", __package__)`, under whatever name
 * their module has. Other calls, and imports by exec(), are not.
 *
 * Code that no compiler has made (damaged, crafted) gives some edges or a ValueError.
 */
#ifndef LW_LIVE_EDGES_H
#define LW_LIVE_EDGES_H

#include "live.h"

#include <stdint.h>

enum lw_edge_kind { LW_EDGE_MODULE, LW_EDGE_CONDITIONAL, LW_EDGE_LAZY, LW_EDGE_FUNCTION, LW_EDGE_TYPING, LW_EDGE_OBSERVED, LW_EDGE_KINDS };

/** What each is called in Python. */
extern const char *const lw_edge_kinds[LW_EDGE_KINDS];

/** What `edges(code)` returns; NULL with an exception. */
PyObject *lw_edges(PyObject *code);

#endif
