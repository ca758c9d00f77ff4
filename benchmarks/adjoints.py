"""Compare the adjoints on every shipped system: `python benchmarks/adjoints.py`.

Writes `benchmarks/results/adjoints.csv`: medians over 16 draws from the prior, all adjoints in turn
on the same machine. Take ratios within a system, not seconds.
"""

from pathlib import Path

import numpy as np
import pandas as pd

import odecal
from odecal import systems

RESULTS = Path(__file__).parent / "results" / "adjoints.csv"


def measure(name: str) -> pd.DataFrame:
    """One row an adjoint, for one system."""
    system = getattr(systems, name)()
    found = odecal.compare_adjoints(system, progress=False)
    seconds = found.gradient_time.median("draw")
    return pd.DataFrame(
        {
            "system": name,
            "adjoint": found.adjoint.values,
            "gradient_us": (seconds * 1e6).round(1),
            "ratio_to_forward": (seconds / seconds.sel(adjoint="forward")).round(2),
            "compile_s": found.compile_time.round(2),
            "peak_memory_kB": (found.peak_memory / 1e3).round(1),
            "median_error": found.relative_error.median("draw"),
            "largest_error": found.relative_error.max("draw"),
            "failed": found.failed.sum("draw"),
            "measured": np.isfinite(found.gradient_time).sum("draw"),
        }
    )


if __name__ == "__main__":
    table = pd.concat([measure(name) for name in systems.__all__], ignore_index=True)
    table.to_csv(RESULTS, index=False, float_format="%.3g")
    print(table.to_string(index=False))
