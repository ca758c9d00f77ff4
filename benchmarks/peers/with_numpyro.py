"""NumPyro's NUTS with its default settings, through Diffrax's default adjoint.

NumPyro runs chains side by side by `pmap`, in which Diffrax's default adjoint cannot be traced
(https://github.com/patrick-kidger/diffrax/issues/765). `SideBySide` does the same with a trace made
before, so that NumPyro loses neither cores nor time by it, and tells compilation from sampling.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import numpyro
from jax.extend.core import jaxpr_as_fun
from numpyro.infer import MCMC, NUTS

from peers.contract import NUM_CHAINS, Task, contend
from peers.numpyro_models import MODELS
from peers.problems import PROBLEMS


class SideBySide:
    """A `chain_method` of NumPyro's: a chain a device."""

    compile_seconds = float("nan")
    sampling_seconds = float("nan")

    def __call__(self, one: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """From a function of one chain to one of all chains."""

        def all_chains(arguments: Any) -> Any:
            began = time.perf_counter()
            first = jax.tree.map(lambda x: x[0], arguments)
            closed, shape = jax.make_jaxpr(one, return_shape=True)(first)
            structure = jax.tree.structure(shape)

            def traced(arguments: Any) -> Any:
                leaves = jaxpr_as_fun(closed)(*jax.tree.leaves(arguments))
                return jax.tree.unflatten(structure, leaves)

            compiled = jax.pmap(traced).lower(arguments).compile()
            compiled_at = time.perf_counter()
            result = jax.block_until_ready(compiled(arguments))
            self.compile_seconds = compiled_at - began
            self.sampling_seconds = time.perf_counter() - compiled_at
            return result

        return all_chains


def run(task: Task, **settings: Any) -> None:
    """Sample and save."""
    numpyro.set_host_device_count(NUM_CHAINS)
    numpyro.enable_x64()
    jax.config.update("jax_compilation_cache_dir", str(task.cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    data = {name: np.asarray(x) for name, x in PROBLEMS[task.problem].columns().items()}
    side_by_side = SideBySide()
    mcmc = MCMC(
        NUTS(MODELS[task.problem], **settings),
        num_warmup=task.num_warmup,
        num_samples=task.num_samples,
        num_chains=NUM_CHAINS,
        chain_method=side_by_side,
        progress_bar=False,
    )
    mcmc.run(jax.random.key(task.seed), data)
    draws = {name: np.asarray(x) for name, x in mcmc.get_samples(group_by_chain=True).items()}
    np.savez(task.folder / "draws.npz", **draws)
    task.written()
    task.report |= {
        "sampling_seconds": side_by_side.sampling_seconds,
        "compile_seconds": side_by_side.compile_seconds,
        "divergences": int(mcmc.get_extra_fields()["diverging"].sum()),
        "versions": f"numpyro {numpyro.__version__}, jax {jax.__version__}",
    }


if __name__ == "__main__":
    contend(run)
