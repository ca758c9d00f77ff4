"""Who is observed, and the groups that they belong to: what a hierarchy is laid out for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

# The columns of a table that name a group together, such as ("subject",) or ("subject", "period").
Columns = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Grouping:
    """The labels of groups along a dimension, and the group of each individual, by its number."""

    dim: str
    labels: Shaped[np.ndarray, " group"]
    index: Int[np.ndarray, " individual"]


@dataclass(frozen=True, eq=False)
class Individuals:
    """Who was observed. Each is solved for by itself."""

    dim: str = ""  # empty for one that needs no name
    labels: Shaped[np.ndarray, " individual"] = field(default_factory=lambda: np.zeros(1, int))
    groups: Mapping[Columns, Grouping] = field(default_factory=dict)
    covariates: Mapping[str, Any] = field(default_factory=dict)  # of shape (individual,), or traced

    def __len__(self) -> int:
        return len(self.labels)
