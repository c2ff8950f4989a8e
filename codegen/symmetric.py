"""Products that are symmetric: of a matrix with itself, transposed, whose rows were multiplied by numbers of their own.

    x.T @ x        x @ x.T        x.T @ (d[:, None] * x)        a Hessian x.T D x, whatever d is made of

Both operands are *proportional* to one array: along the axes that stay, their elements are that array's, each row times
a factor. Then half of the product is enough. Rounding apart that holds where everything is finite, and everything is
finite where the diagonal is: it has each element in a product with itself. What is asked here is only what the graph
says; which half is computed is `codegen/routines/halves.py`'s question.
"""

from __future__ import annotations

from collections.abc import Hashable

from stager.ir.graph import Node, Value

MOST_VALUES = 64
"""So many are looked at; what is made in more steps is not called symmetric."""

Roles = tuple[Hashable, ...]
"""What each axis of a value is in the product: ("kept", n), ("summed", n) or ("batch", n)."""
Form = tuple[Value, Roles]


class Symmetry:
    """Whether a product is symmetric; `exactly` when both halves have the same bits anyway."""

    def __init__(self, node: Node) -> None:
        x, y = node.args
        (xc, yc), (xb, yb) = node.params["contract"], node.params["batch"]
        self._left = MOST_VALUES
        self._forms: dict[Form, frozenset[Form] | None] = {}
        mine, theirs = _roles(x, xc, xb), _roles(y, yc, yb)
        self.exactly = (x, mine) == (y, theirs)
        self.holds = x.type.ndim == y.type.ndim and (self.exactly or self._share((x, mine), (y, theirs)))

    def _share(self, a: Form, b: Form) -> bool:
        first, second = self._proportional(a), self._proportional(b)
        return first is not None and second is not None and not first.isdisjoint(second)

    def _proportional(self, form: Form) -> frozenset[Form] | None:
        """The arrays that a value is proportional to, itself among them; None where it is zero, so to all."""
        if form in self._forms:
            return self._forms[form]
        self._left -= 1
        itself = frozenset([form])
        self._forms[form] = itself
        more = self._rule(form) if self._left > 0 else itself
        self._forms[form] = found = None if more is None else itself | more
        return found

    def _rule(self, form: Form) -> frozenset[Form] | None:
        v, roles = form
        node, args = v.node, v.node.args
        match node.op.name:
            case "fill":
                return None if node.params["value"] == 0 else frozenset()
            case "transpose":
                return self._proportional((args[0], _before(node, roles)))
            case "neg":
                return self._proportional((args[0], roles))
            case "mul":
                for factor, other in ((args[0], args[1]), (args[1], args[0])):
                    if self._constant((factor, roles)):
                        return self._proportional((other, roles))
            case "div" if self._constant((args[1], roles)):
                return self._proportional((args[0], roles))
            case "add" | "sub":
                return self._both((args[0], roles), (args[1], roles))
            case "select" if self._constant((args[0], roles)):
                return self._both((args[1], roles), (args[2], roles))
        return frozenset()

    def _both(self, a: Form, b: Form) -> frozenset[Form] | None:
        first, second = self._proportional(a), self._proportional(b)
        if first is None or second is None:
            return second if first is None else first
        return first & second

    def _constant(self, form: Form) -> bool:
        """Whether a value does not vary along the axes that stay."""
        todo, seen = [form], {form}
        while todo:
            v, roles = todo.pop()
            self._left -= 1
            if self._left <= 0:
                return False
            if not any(_stays(r) for r in roles):
                continue
            node = v.node
            match node.op.name:
                case "fill":
                    continue
                case "broadcast":
                    made = (node.args[0], tuple(roles[a] for a in node.params["axes"]))
                    before = [made]
                case "transpose":
                    before = [(node.args[0], _before(node, roles))]
                case _ if node.op.family == "elementwise" and node.args:
                    before = [(a, roles) for a in node.args]
                case _:
                    return False
            todo += [f for f in before if f not in seen]
            seen.update(before)
        return True


def _roles(v: Value, summed: tuple[int, ...], batch: tuple[int, ...]) -> Roles:
    roles: dict[int, Hashable] = {a: ("summed", n) for n, a in enumerate(summed)}
    roles |= {a: ("batch", n) for n, a in enumerate(batch)}
    kept = [a for a in range(v.type.ndim) if a not in roles]
    roles |= {a: ("kept", n) for n, a in enumerate(kept)}
    return tuple(roles[a] for a in range(v.type.ndim))


def _stays(role: Hashable) -> bool:
    return isinstance(role, tuple) and role[0] == "kept"


def _before(node: Node, roles: Roles) -> Roles:
    """The roles of a transpose's operand."""
    perm = node.params["perm"]
    out: list[Hashable] = [None] * len(roles)
    for k, axis in enumerate(perm):
        out[axis] = roles[k]
    return tuple(out)
