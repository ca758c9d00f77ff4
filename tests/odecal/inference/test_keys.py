"""No random number is used twice: every key of a run, as it is used."""

import inspect
from collections import defaultdict
from itertools import count

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

import odecal
from odecal import Observable, Parameter, State, System, samplers
from odecal._inference import pipeline, predictive
from odecal._inference.engine import Engine
from odecal._inference.predictive import Evaluator
from odecal._inference.progress import NoProgress
from odecal._jax.keys import run_keys
from odecal._jax.programs import Compiler
from odecal._model.flat import flatten

_TRIED = count()


class Uses:
    """What was done with each key, and where in a program: told by a generator of random numbers.

    It draws what Threefry draws.
    """

    def __init__(self):
        self.drawn = defaultdict(set)
        self.split = set()
        self.numbered = set()
        self._sites = count()
        seen, base = self, jax.extend.random.threefry_prng_impl

        def told(record, key, *more):
            jax.debug.callback(lambda k: record(tuple(np.asarray(k).tolist())), key, *more)

        def draw(key, bit_width, shape):
            site = next(seen._sites)
            told(lambda k: seen.drawn[k].add(site), key)
            return base.random_bits(key, bit_width, shape)

        def split(key, shape):
            told(seen.split.add, key)
            return base.split(key, shape)

        def fold_in(key, number):
            told(seen.numbered.add, key)
            return base.fold_in(key, number)

        self.generator = jax.extend.random.define_prng_impl(
            key_shape=base.key_shape,
            seed=base.seed,
            split=split,
            random_bits=draw,
            fold_in=fold_in,
            name=f"told_{next(_TRIED)}",
        )

    def check(self):
        jax.effects_barrier()
        drawn = set(self.drawn)
        assert drawn
        assert not {k: sites for k, sites in self.drawn.items() if len(sites) > 1}
        assert not self.split & self.numbered
        assert not drawn & (self.split | self.numbered)


@pytest.fixture
def uses(monkeypatch):
    found = Uses()
    wrap, key = jax.random.wrap_key_data, jax.random.key
    monkeypatch.setattr(
        jax.random, "wrap_key_data", lambda x, impl=None: wrap(x, impl=found.generator)
    )
    monkeypatch.setattr(jax.random, "key", lambda seed: key(seed, impl=found.generator))
    return found


class Pair(System):
    """Two observables of each of several subjects, each of whom has two parameters of its own."""

    time_unit = "h"
    individual = "id"
    t0 = 0.0

    x = State(initial=1.0)
    k = Parameter.varying(
        "id", location=dist.Normal(0.0, 0.3), scale=dist.HalfNormal(0.3), link="log"
    )
    b = Parameter.varying("id", location=dist.Normal(0.0, 0.3), scale=dist.HalfNormal(0.3))

    def vector_field(self, t, y, p):
        return {"x": -p.k * y.x}

    first = Observable(lambda t, y, p: odecal.noise.Normal(y.x + p.b, 0.1))
    second = Observable(lambda t, y, p: odecal.noise.Normal(2 * y.x, 0.1))


DESIGN = pd.DataFrame(
    {"id": [1, 1, 2, 2], "time": [1.0, 2.0, 1.0, 2.0], "first": 1.0, "second": 1.0}
)


def test_no_two_parts_of_a_prediction_share_a_random_number(uses, monkeypatch):
    """Neither two observables, nor the data and those of other subjects, nor two draws."""
    monkeypatch.setattr(predictive, "_CHUNK", 8)
    model = odecal.compile(Pair(), DESIGN)
    with model.precision(), Compiler() as compiler:
        flat = flatten(model)
        evaluate = Evaluator(model, flat, np.linspace(0.0, 2.0, 4), compiler)
        found = evaluate(np.zeros((2, 8, flat.target.dim)), run_keys(0).replicates)
    assert set(found.renewed) == {"first", "second"}
    uses.check()


def test_no_two_values_of_a_simulation_share_a_random_number(uses):
    odecal.simulate(Pair(), design=DESIGN, seed=3)
    uses.check()


@pytest.mark.slow
def test_no_two_parts_of_a_calibration_share_a_random_number(uses, monkeypatch):
    monkeypatch.setattr(predictive, "_CHUNK", 8)
    monkeypatch.setattr(pipeline, "_NUM_PRIOR", 64)
    tree = odecal.calibrate(Pair(), DESIGN, num_chains=2, num_warmup=12, num_samples=8, seed=1)
    assert {"posterior_predictive", "population_predictive"} <= set(tree.children)
    uses.check()


@pytest.mark.slow
def test_no_two_parts_of_a_search_share_a_random_number(uses):
    odecal.find_starts(odecal.compile(Pair(), DESIGN), jax.random.key(4), num_chains=2)
    uses.check()


# Which number what they are given.
_QUICK = {
    samplers.MEADS: samplers.MEADS(),
    samplers.TemperedSMC: samplers.TemperedSMC(num_particles=20, max_moves=2),
}
_SAMPLERS = [
    pytest.param(_QUICK.get(cls, cls()), id=name, marks=() if cls in _QUICK else pytest.mark.slow)
    for name in samplers.__all__
    if inspect.isclass(cls := getattr(samplers, name))
    and issubclass(cls, samplers.AbstractSampler)
    and not inspect.isabstract(cls)
]


def gaussian(x):
    return -0.5 * jnp.sum(x**2)


@pytest.mark.parametrize("sampler", _SAMPLERS)
def test_no_two_transitions_of_a_sampler_share_a_random_number(uses, sampler):
    run = samplers.Run(16 if sampler.ensemble else 2, 4, 6)
    places = jnp.linspace(-1.0, 1.0, 3 * run.num_chains).reshape(-1, 3)
    values, gradients = jax.vmap(jax.value_and_grad(gaussian))(places)
    covariance = jnp.broadcast_to(jnp.eye(3), (run.num_chains, 3, 3))
    parts = (np.asarray(x) for x in (places, values, gradients, covariance))
    target = samplers.Target(3, gaussian, gaussian, lambda key: jax.random.normal(key, (3,)))
    with Compiler() as compiler:
        engine = Engine(target, sampler, run, run_keys(0).chains, compiler)
        engine.sample(engine.init(samplers.Start(*parts)), NoProgress())
    uses.check()
