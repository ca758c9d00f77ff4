"""Named values: what `y` and `p` are inside a system's functions."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax

from odecal._errors import listed, suggestion


@jax.tree_util.register_pytree_with_keys_class
class Values(Mapping[str, Any]):
    """A frozen record of arrays by name, read as attributes: `y.hare`, `p.birth`.

    It is a JAX pytree and a mapping, so that `jax.grad` and `dict(...)` work on it. The label says
    what these are ("state", "parameter"): reading a name that is not there lists those that are.
    """

    __slots__ = ("_label", "_values")

    def __init__(self, values: Mapping[str, Any], label: str = "value") -> None:
        object.__setattr__(self, "_values", dict(values))
        object.__setattr__(self, "_label", label)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(
                f"There is no {self._label} `{name}`. Expected one of: {listed(self._values)}."
                + suggestion(name, self._values)
            ) from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Values are frozen: cannot set `{name}`.")

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Values({', '.join(f'{k}={v}' for k, v in self._values.items())})"

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[tuple[str, ...], str]]:
        """Flatten for JAX: the arrays, and the names as structure."""
        keyed = [(jax.tree_util.GetAttrKey(k), v) for k, v in self._values.items()]
        return keyed, (tuple(self._values), self._label)

    @classmethod
    def tree_unflatten(cls, structure: tuple[tuple[str, ...], str], leaves: Any) -> "Values":
        """Rebuild from what `tree_flatten_with_keys` gave."""
        names, label = structure
        return cls(dict(zip(names, leaves, strict=True)), label)
