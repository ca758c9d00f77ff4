"""The problems written by hand for NumPyro and Diffrax, as their documentation shows."""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from peers.problems import PROBLEMS


def solve(field: Callable[..., Any], t0: float, ts: jax.Array, y0: jax.Array, args: Any) -> Any:
    """The states at the given times, with Diffrax's default adjoint."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(field),
        diffrax.Tsit5(),
        t0,
        ts[-1],
        None,
        y0,
        args,
        saveat=diffrax.SaveAt(ts=ts),
        stepsize_controller=diffrax.PIDController(rtol=1e-6, atol=1e-8),
        max_steps=4096,
        throw=False,
    )
    return solution.ys


def hudson_bay(data: dict[str, jax.Array]) -> None:
    """Hares and lynx."""
    positive_rate = dist.TruncatedNormal(1.0, 0.5, low=0.0)
    small_rate = dist.TruncatedNormal(0.05, 0.05, low=0.0)
    birth = numpyro.sample("birth", positive_rate)
    predation = numpyro.sample("predation", small_rate)
    death = numpyro.sample("death", positive_rate)
    growth = numpyro.sample("growth", small_rate)
    hare0 = numpyro.sample("hare0", dist.LogNormal(jnp.log(10.0), 1.0))
    lynx0 = numpyro.sample("lynx0", dist.LogNormal(jnp.log(10.0), 1.0))
    sigma_hare = numpyro.sample("sigma_hare", dist.LogNormal(-1.0, 1.0))
    sigma_lynx = numpyro.sample("sigma_lynx", dist.LogNormal(-1.0, 1.0))

    def field(t: Any, z: jax.Array, args: Any) -> jax.Array:
        birth, predation, death, growth = args
        return jnp.stack([(birth - predation * z[1]) * z[0], (growth * z[0] - death) * z[1]])

    ts, y0 = data["ts"], jnp.stack([hare0, lynx0])
    z = solve(field, ts[0], ts, y0, (birth, predation, death, growth))
    numpyro.sample("hares", dist.LogNormal(jnp.log(z[:, 0]), sigma_hare), obs=data["hare_pelts"])
    numpyro.sample("lynx", dist.LogNormal(jnp.log(z[:, 1]), sigma_lynx), obs=data["lynx_pelts"])


def boarding_school(data: dict[str, jax.Array]) -> None:
    """Influenza among 763 boys."""
    beta = numpyro.sample("beta", dist.TruncatedNormal(2.0, 1.0, low=0.0))
    gamma = numpyro.sample("gamma", dist.TruncatedNormal(0.4, 0.5, low=0.0))
    phi_inv = numpyro.sample("phi_inv", dist.Exponential(5.0))

    def field(t: Any, y: jax.Array, args: Any) -> jax.Array:
        beta, gamma = args
        infections, recoveries = beta * y[0] * y[1] / 763.0, gamma * y[1]
        return jnp.stack([-infections, infections - recoveries, recoveries])

    y = solve(field, 0.0, data["ts"], jnp.array([762.0, 1.0, 0.0]), (beta, gamma))
    mean = jnp.maximum(y[:, 1], 1e-10)
    numpyro.sample("counts", dist.NegativeBinomial2(mean, 1.0 / phi_inv), obs=data["in_bed"])


CASCADE_PRIORS = {
    **{"fading": (-2.0, 0.3), "on_1": (0.0, 0.3), "off_1": (-1.0, 0.3), "feedback": (1.0, 0.3)},
    **{"on_2": (0.0, 0.3), "off_2": (-1.0, 0.3), "on_3": (0.0, 0.3), "off_3": (-1.0, 0.3)},
    **{"synthesis": (0.5, 0.3), "loss": (-1.5, 0.3)},
    **{"scale_1": (0.0, 0.1), "scale_2": (0.0, 0.1), "scale_3": (0.0, 0.1)},
    **{"sigma_1": (-2.0, 0.5), "sigma_2": (-2.0, 0.5), "sigma_3": (-2.0, 0.5)},
    "sigma_product": (-2.0, 0.5),
}


def cascade(data: dict[str, jax.Array]) -> None:
    """Three kinases, and a product of the last."""
    p = {
        name: numpyro.sample(name, dist.LogNormal(*prior)) for name, prior in CASCADE_PRIORS.items()
    }

    def field(t: Any, y: jax.Array, p: Any) -> jax.Array:
        stimulus = jnp.exp(-p["fading"] * t) / (1.0 + p["feedback"] * y[2])
        return jnp.stack(
            [
                p["on_1"] * stimulus * (1.0 - y[0]) - p["off_1"] * y[0],
                p["on_2"] * y[0] * (1.0 - y[1]) - p["off_2"] * y[1],
                p["on_3"] * y[1] * (1.0 - y[2]) - p["off_3"] * y[2],
                p["synthesis"] * y[2] - p["loss"] * y[3],
            ]
        )

    y = solve(field, 0.0, data["ts"], jnp.zeros(4), p)
    medians = y * jnp.stack([p["scale_1"], p["scale_2"], p["scale_3"], jnp.ones(())])
    sigmas = [p["sigma_1"], p["sigma_2"], p["sigma_3"], p["sigma_product"]]
    for i, name in enumerate(PROBLEMS["cascade"].observables):
        law = dist.LogNormal(jnp.log(medians[:, i]), sigmas[i])
        numpyro.sample(name, law, obs=data[name])


MODELS = {"hudson_bay": hudson_bay, "boarding_school": boarding_school, "cascade": cascade}
