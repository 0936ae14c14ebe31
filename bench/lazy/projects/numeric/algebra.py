"""sympy: an integral, an equation, a limit."""
from sympy import Eq, Symbol, exp, integrate, limit, sin, solve

x = Symbol("x")
print(integrate(x**2 * exp(x), x))
print(solve(Eq(x**2 - 2, 0), x), limit(sin(x) / x, x, 0))
