"""What is added by one file and one line of a stub is found by its name."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import odecal
from odecal._cli import choices

ADDED = {
    "samplers/_slow_walk.py": """
from odecal.samplers._nuts import NUTS
class SlowWalk(NUTS):
    pass
""",
    "adjoints/_two_pass.py": """
from odecal.adjoints._explicit_reverse import ExplicitReverse
class TwoPass(ExplicitReverse):
    pass
""",
    "noise/_gumbel.py": """
import numpyro.distributions as dist
class Gumbel(dist.Gumbel):
    pass
""",
}
FOUND = """
import sys
from odecal._cli import app, settings
assert "jaxlib" not in sys.modules
print(settings.make_sampler("slow-walk", None, ["max_tree_depth=3"]))
print(settings.make_adjoint("two-pass"))
import odecal
from odecal._inference.compare_adjoints import default_adjoints
print(odecal.noise.Gumbel(0.0, 1.0), odecal.__file__)
print("in the comparison:", *default_adjoints(odecal.Solve()))
sys.argv = ["odecal", "calibrate", "--help"]
app.main()
"""


def test_names_are_as_they_have_been():
    assert choices.samplers() == {
        "adjusted-mclmc": "AdjustedMCLMC",
        "chees": "ChEES",
        "hmc": "HMC",
        "meads": "MEADS",
        "numpyro-nuts": "NumPyroNUTS",
        "nuts": "NUTS",
        "pathfinder": "Pathfinder",
        "tempered-smc": "TemperedSMC",
    }
    assert list(choices.metrics()) == ["dense", "diagonal", "low-rank", "shrunk"]
    assert {"explicit-forward", "recursive-checkpoint", "direct"} < set(choices.adjoints())
    assert "diffrax-adjoint" not in choices.adjoints()


def test_one_file_and_one_line_are_enough(tmp_path):
    """In a copy of the package: a sampler, an adjoint and a noise model."""
    package = tmp_path / "odecal"
    shutil.copytree(Path(odecal.__file__).parent, package)
    shutil.copytree(odecal.adjoints.__path__[0], package / "adjoints")
    for path, text in ADDED.items():
        file = package / path
        file.write_text(text)
        name = text.partition("class ")[2].partition("(")[0]
        with (file.parent / "__init__.pyi").open("a") as stub:
            stub.write(f"from .{file.stem} import {name} as {name}\n")
    run = subprocess.run(
        [sys.executable, "-c", FOUND], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert str(tmp_path) in run.stdout
    found = ("SlowWalk", "TwoPass", "Gumbel", "comparison:.*two_pass", "slow-walk", "two-pass")
    for name in found:
        assert re.search(name, run.stdout), run.stdout
