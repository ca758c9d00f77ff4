"""The pipeline: how often a model is traced, and what a run says of itself."""

import jax
import numpy as np
import pytest
from odecal.systems import ExponentialDecay

import odecal
from odecal._jax.programs import Compiler, jit_sharded, map_or_vmap, padded
from odecal._results.summary import summary
from odecal._results.verdict import verdict


@pytest.fixture(scope="module")
def traced():
    """A calibration, and how often its model was traced on the way."""
    calls = []
    predict = odecal.Model._predict

    def counted(self, *args, **kwargs):
        calls.append(1)
        return predict(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(odecal.Model, "_predict", counted)
        posterior = odecal.calibrate(
            ExponentialDecay(), num_warmup=120, num_samples=100, num_chains=3, progress=False
        )
    return posterior, len(calls)


def test_the_model_is_traced_once_a_program(traced):
    """Once for the gradient that climbs and sampler share, and once for the predictions."""
    assert traced[1] == 2


def test_a_run_says_what_it_did(traced):
    posterior, _ = traced
    attrs = posterior.attrs
    assert attrs["complete"] == 1
    assert attrs["done"] == 220
    assert attrs["compile_seconds"] > 0
    assert attrs["wall_time_seconds"] > attrs["compile_seconds"]
    text = verdict(posterior, summary(posterior))
    assert "of tracing and compiling" in text[0]
    assert text[1] == "16 climbs from prior draws ended in 1 mode."


def test_where_chains_started_is_in_the_file(traced):
    group = traced[0]["warm_start"].to_dataset()
    assert group.sizes["climb"] == 16
    assert group.sizes["chain"] == 3
    assert (group["climb_mode"] == 0).all()
    assert group["k"].sizes == {"mode": 1}
    model = odecal.compile(ExponentialDecay(), ExponentialDecay.data)
    with model.precision():
        values = {name: group[name].values[0] for name in ("k", "y0", "sigma")}
        density = model.logdensity_fn(model.unconstrain(values))
    np.testing.assert_allclose(group["mode_logdensity"][0], density, rtol=1e-6)


def test_what_warmup_found_is_in_the_file(traced):
    posterior, _ = traced
    adapted = posterior["adaptation"].to_dataset()
    matrix = adapted["inverse_mass_matrix"]
    assert matrix.dims == ("chain", "unconstrained", "unconstrained_")
    np.testing.assert_array_equal(
        adapted["window_inverse_mass_matrix"].isel(window=-1), matrix.values
    )
    assert posterior["warmup_sample_stats"]["step_size"].shape == (3, 120)
    last = posterior["sample_stats"]["step_size"]
    assert (last == last.isel(draw=0)).all()


def test_close_modes_are_said_and_tempering_is_offered(traced):
    """The sentences of a posterior with two modes, from a file that tells of them."""
    tree = traced[0].copy(deep=True)
    start = tree["warm_start"].to_dataset()
    two = start.isel(mode=[0, 0])
    two["mode_log_mass"].values[:] = [0.0, -1.0]
    two["mode_logdensity"].values[:] = [10.0, 7.0]
    two["chain_mode"].values[:] = [0, 1, 0]
    two["climb_mode"].values[:2] = -1
    tree["warm_start"] = type(tree)(two)
    text = " ".join(verdict(tree, summary(tree)))
    assert "ended in 2 modes, 3 nats apart; 2 did not arrive" in text
    assert "73%, 27%" in text
    assert "TemperedSMC" in text


def test_programs_are_compiled_in_the_background_and_run_on_all_devices():
    devices = jax.devices()
    assert len(devices) == 2
    seen = []

    def double(x):
        seen.append(1)
        return 2 * x

    with Compiler() as compiler:
        example = jax.ShapeDtypeStruct((4, 3), np.float32)
        program = compiler(jit_sharded(map_or_vmap(double), devices, batched=1), example)
        assert program.shape.shape == (4, 3)
        result = program(np.ones((4, 3), np.float32))
        assert compiler.seconds > 0
    np.testing.assert_array_equal(result, 2.0)
    assert len(result.sharding.device_set) == 2
    assert len(seen) == 1
    assert padded(5, 4) == 8


def test_a_program_that_cannot_be_compiled_says_so_when_it_is_run():
    class Broken:
        out_info = ()

        def lower(self, *args):
            return self

        def compile(self):
            raise RuntimeError("no room")

    with Compiler() as compiler:
        program = compiler(Broken())
        with pytest.raises(RuntimeError, match="no room"):
            program()
