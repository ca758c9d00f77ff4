"""Settings of every test: two CPU devices, so that chains are spread as on a user's machine.

What is compiled is kept for the length of the run and shared by its processes.
"""

import os
import shutil
import tempfile

CACHE = "JAX_COMPILATION_CACHE_DIR"
if CACHE not in os.environ:
    os.environ[CACHE] = OURS = tempfile.mkdtemp(prefix="odecal-tests-")
else:
    OURS = None
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)


def pytest_unconfigure():
    if OURS is not None:
        shutil.rmtree(OURS, ignore_errors=True)
