"""Settings of every test: two CPU devices, so that chains are spread as on a user's machine.

What XLA compiles is kept between runs, in pytest's cache, one folder a version of JAX.
"""

import gc
import os
import subprocess
from importlib.metadata import version
from importlib.util import find_spec

import pytest

# An int where a float is expected is no mistake.
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"

# What neither solves nor starts a process, but compiles for most of the time that is left.
COMPILES = {"test_samplers.py", "test_censoring.py", "test_densities.py", "test_interpolation.py"}


def pytest_addoption(parser):
    parser.addoption(
        "--quick", action="store_true", help="skip what solves, starts a process or compiles much"
    )
    parser.addini("typed", "rooms whose annotations the tests check", type="linelist")


def pytest_configure(config):
    gc.set_threshold(100_000, 20, 50)  # to visit what JAX keeps is a tenth of the time
    if config.pluginmanager.hasplugin("cacheprovider"):
        compiled = config.cache.mkdir(f"jax-{version('jax')}")
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(compiled))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    if find_spec("beartype"):
        from jaxtyping import install_import_hook

        install_import_hook(config.getini("typed"), CHECKER)
    import jax

    jax.config.update("jax_num_cpu_devices", 2)


def pytest_ignore_collect(collection_path, config):
    return True if config.getoption("--quick") and collection_path.name in COMPILES else None


@pytest.fixture(autouse=True, scope="session")
def _quick(request):
    """With `--quick`, a test is skipped where it would solve, or start a process."""
    if not request.config.getoption("--quick"):
        yield
        return
    import diffrax
    from odecal.adjoints import AbstractAdjoint

    def skip(*args, **kwargs):
        pytest.skip("not quick")

    def subclasses(cls):
        return {cls}.union(*map(subclasses, cls.__subclasses__()))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", skip)
        patch.setattr(diffrax, "diffeqsolve", skip)
        for cls in subclasses(AbstractAdjoint):
            for name in {"solve", "solve_with_jumps"} & set(vars(cls)):
                patch.setattr(cls, name, skip)
        yield
