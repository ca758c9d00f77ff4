"""The environment of the Stan contenders, and how their programs are compiled.

PyStan offers no dense metric and no optimiser, but brings Stan's headers: `stan_dense.cpp` calls
both. As CmdStan's own main is, it is compiled once, when the environment is made.
"""

import subprocess
import sys
from pathlib import Path

PACKAGES = ("pystan==3.14.*", "setuptools")
MAIN = Path(__file__).parent / "stan_dense.cpp"
FLAGS = (
    *("-O3", "-std=c++17", "-w", "-D_REENTRANT", "-DBOOST_DISABLE_ASSERTS"),
    "-D_GLIBCXX_USE_CXX11_ABI=0",  # as the libraries that come with PyStan were built
)
LIBRARIES = ("-lsundials_cvodes", "-lsundials_idas", "-lsundials_kinsol", "-lsundials_nvecserial")


def make(folder: Path) -> Path:
    """Make the environment unless it is there.

    Args:
        folder: where.

    Returns:
        Its Python.
    """
    python = folder / "bin" / "python"
    if not (folder / "stan_dense.o").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        code = "from peers import stan_environment as s; s.compile_main()"
        subprocess.run([python, "-c", code], check=True, cwd=MAIN.parents[1])
    return python


def compile_main() -> None:
    """Compile the main program; to be called within the environment."""
    compiled = Path(sys.prefix) / "stan_dense.o"
    partial = compiled.with_suffix(".part.o")
    subprocess.run(["g++", *FLAGS, *_include(), "-c", MAIN, "-o", partial], check=True)
    partial.rename(compiled)


def build(program: Path, folder: Path) -> Path:
    """Translate, compile and link a Stan program; to be called within the environment.

    Args:
        program: a `.stan` file.
        folder: where the executable is put; one that is there is taken.

    Returns:
        The executable.
    """
    executable = folder / program.stem
    if not executable.exists():
        folder.mkdir(parents=True, exist_ok=True)
        source, compiled = executable.with_suffix(".cpp"), executable.with_suffix(".o")
        stanc = [_home() / "stanc", "--O1", f"--o={source}", program]
        subprocess.run(stanc, check=True)
        subprocess.run(["g++", *FLAGS, *_include(), "-c", source, "-o", compiled], check=True)
        library = _home() / "lib"
        link = [f"-L{library}", f"-Wl,-rpath,{library}", *LIBRARIES, "-ltbb"]
        main = Path(sys.prefix) / "stan_dense.o"
        subprocess.run(["g++", main, compiled, "-o", executable, *link], check=True)
    return executable


def _include() -> tuple[str, Path]:
    return "-I", _home() / "include"


def _home() -> Path:
    import httpstan

    return Path(httpstan.__file__).parent
