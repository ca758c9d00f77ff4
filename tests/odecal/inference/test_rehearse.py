"""What cannot be saved is refused before anything is drawn."""

from concurrent.futures import Future

import jax
import numpyro.distributions as dist
import pandas as pd
import pytest

import odecal
from odecal import Observable, Parameter, State, System
from odecal._inference.engine import Engine
from odecal._inference.pipeline import time_grid
from odecal._inference.predictive import Evaluator
from odecal._inference.rehearse import rehearse
from odecal._jax.keys import run_keys
from odecal._jax.programs import Compiler, Program
from odecal._model.flat import flatten
from odecal._run.names import check_dims
from odecal._run.records import Plan
from odecal.samplers import MEADS, NUTS, Run


class Uncompiled(Compiler):
    """Traces programs and compiles none, which takes long."""

    def __call__(self, function, *examples):
        shape = jax.eval_shape(function, *examples)
        shape = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), shape)
        return Program(Future(), shape)


def rehearsed(system, table, sampler):
    model = odecal.compile(system, table)
    check_dims(model)
    plan, compiler = Plan(model, sampler, Run(8, 5, 5), 0), Uncompiled()
    with model.precision():
        flat = flatten(model)
        engine = Engine(flat.target, plan.sampler, plan.run, run_keys(0).chains, compiler)
        evaluate = Evaluator(model, flat, time_grid(model), compiler)
        rehearse(plan, flat.names, engine.blank(), evaluate.blank(), time_grid(model))


def tank(group="ID", the_unit="m", dim=None, labels=("a", "b")):
    class Tank(System):
        t0 = 0.0
        individual = group
        level = State(initial=1.0, unit=the_unit)
        rate = Parameter.varying(group, location=dist.Normal(0.0, 1.0), scale=dist.HalfNormal(1.0))

        if dim is not None:
            coords = {dim: list(labels)}
            leak = Parameter(dist.HalfNormal(1.0), dims=(dim,))

        def vector_field(self, t, y, p):
            return {"level": -p.rate * y.level}

        gauge = Observable(lambda t, y, p: odecal.noise.Normal(y.level, 0.1), unit=the_unit)

    return Tank()


def table(group="ID", labels=(1, 2)):
    rows = [{group: label, "time": t, "gauge": 0.5} for label in labels for t in (1.0, 2.0)]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("group", "sampler"), [("Subject ID", NUTS()), ("µ$x_{1}$%", MEADS()), ("n" * 250, NUTS())]
)
def test_a_result_of_odd_names_can_be_saved(group, sampler):
    rehearsed(tank(group), table(group), sampler)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("a/b", "name 'a/b' cannot .* holds a `/`"),
        ("chain", "dimension `chain`"),
        ("draw", "dimension `draw`"),
        ("mode", "dimension `mode`"),
        ("rate_location", "dimension `rate_location`"),
        (" ID", "begins or ends with a space"),
        ("%x", "begins with `%`"),
        ("x\ny", r"'x\\ny' .* line break"),
        ("x\0y", "NUL"),
        ("\ud800", r"'\\ud800' .* half a character"),
        ("n" * 300, "300 bytes long"),
        ("ä" * 150, "300 bytes long"),
        ("e\u0301", "form NFC"),
    ],
)
def test_a_name_that_cannot_be_saved_is_refused(group, message):
    with pytest.raises(odecal.OutputError, match=message) as told:
        rehearsed(tank(group), table(group), NUTS())
    assert str(told.value).isprintable()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"the_unit": "kg\ud800"}, "units of `gauge`.* half a character"),
        ({"the_unit": "kg\0"}, "units of `gauge`.* NUL"),
        ({"dim": "a/b"}, "holds a `/`"),
        ({"dim": "climb"}, "dimension `climb`"),
        ({"dim": "kind", "labels": (None, "b")}, r"labels of `kind`.*NoneType, str"),
    ],
)
def test_a_declaration_that_cannot_be_saved_is_refused(parts, message):
    with pytest.raises(odecal.OutputError, match=message):
        rehearsed(tank(**parts), table(), NUTS())


@pytest.mark.parametrize("labels", [("a", "\ud800"), ("a", "x\0y")])
def test_labels_that_cannot_be_saved_are_refused(labels):
    with pytest.raises((odecal.OutputError, odecal.ObservationError), match=r"[Ll]abel|ID"):
        rehearsed(tank(), table(labels=labels), NUTS())


def test_what_nobody_has_thought_of_is_named(monkeypatch):
    """Writing is tried; of what fails the variable is named."""
    from odecal._run import names

    monkeypatch.setattr(names, "_fault_of_name", lambda name: "")
    with pytest.raises(odecal.OutputError, match=r"group \w+ of the result.*`rate`"):
        rehearsed(tank("%x"), table("%x"), NUTS())


def test_a_calibration_is_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(odecal.OutputError, match="a/b"):
        odecal.calibrate(tank("a/b"), table("a/b"), path=tmp_path / "x.nc", progress=False)
    assert list(tmp_path.iterdir()) == []
