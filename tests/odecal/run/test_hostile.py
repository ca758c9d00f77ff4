"""Files that were made to do harm: nothing that they say is run; each gives a clear message."""

import hashlib
import json
import sys
from pathlib import Path

import diffrax
import numpy as np
import pytest
import xarray as xr
from odecal.systems import ExponentialDecay

import odecal
from odecal import samplers
from odecal._run.encode import to_plain
from odecal._run.journal import FileJournal, journal_path
from odecal._run.npz import pack, unpack
from odecal._run.plan import plan_from_bytes, plan_to_bytes
from odecal._run.records import Plan

SIZE = {"num_warmup": 20, "num_samples": 10, "num_chains": 2, "seed": 4, "progress": False}


@pytest.fixture(scope="module")
def honest():
    """The arrays of the plan of an honest run, and its header."""
    model = odecal.compile(ExponentialDecay(), ExponentialDecay().data)
    plan = Plan(model, samplers.NUTS(), samplers.Run(2, 20, 10), 4)
    arrays = unpack(plan_to_bytes(plan))
    return arrays, json.loads(str(arrays["header"]))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small run, saved."""
    path = tmp_path_factory.mktemp("saved") / "x.nc"
    odecal.calibrate(ExponentialDecay(), path=path, **SIZE)
    return path


def plan_with(honest, **parts):
    """The bytes of a plan whose header has other parts."""
    arrays, header = honest
    return pack(arrays | {"header": json.dumps(header | parts)})


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """A path, and modules and files that would make a file there if they were run."""
    path = tmp_path / "canary"
    text = f"open({str(path)!r}, 'w').close()\n"
    (tmp_path / "evil_module.py").write_text(text)
    (tmp_path / "evil.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield path
    assert not path.exists()
    assert "evil_module" not in sys.modules


def refused(data, match=None, system=None):
    errors = (odecal.OutputError, odecal.SettingsError)
    with pytest.raises(errors, match=match):
        plan_from_bytes(data, Path("x.nc"), system, tell=lambda line: None)


def test_an_honest_plan_is_made_again(honest):
    plan = plan_from_bytes(plan_with(honest), Path("x.nc"), None)
    assert to_plain(plan.sampler) == to_plain(samplers.NUTS())
    assert type(plan.model.system) is ExponentialDecay


NUTS = to_plain(samplers.NUTS())
CALLS = {"function": "os:system"}


def nuts(**fields):
    return {"class": NUTS["class"], "fields": NUTS["fields"] | fields}


@pytest.mark.parametrize(
    "sampler",
    [
        nuts(kernel=CALLS),  # shadows a method
        nuts(check_run={"class": "functools:partial", "fields": {}}),
        nuts(metric=CALLS),
        nuts(metric={"name": "os:system"}),
        nuts(metric={"constant": "os:sep"}),
        nuts(metric=to_plain(diffrax.Tsit5())),
        nuts(metric="dense"),
        nuts(target_acceptance_rate=2.0),
        nuts(target_acceptance_rate=None),
        nuts(max_tree_depth=10**9),
        nuts(max_tree_depth=True),
        {"class": NUTS["class"], "fields": {}},
        {"class": NUTS["class"], "fields": [1]},
        {"class": NUTS["class"]},
        {"class": "subprocess:Popen", "fields": {"args": "touch canary"}},
        {"class": "os:system", "fields": {}},
        {"class": "builtins:eval", "fields": {}},
        {"class": "evil_module:Sampler", "fields": {}},
        {"class": "odecal.__main__:main", "fields": {}},
        {"class": "odecal._run.netcdf:os.system", "fields": {}},
        {"class": "odecal._run.netcdf:Path", "fields": {}},
        {"class": "odecal.samplers._nuts:NUTS.__class__", "fields": {}},
        {"class": "odecal.samplers._base:AbstractSampler", "fields": {}},
        {"class": "odecal:NUTS", "fields": NUTS["fields"]},  # of another package
        {"class": "._nuts:NUTS", "fields": NUTS["fields"]},
        {"function": NUTS["class"]},
        {"class": 7, "fields": {}},
        {"class": None, "fields": {}},
        to_plain(samplers.LowRankMetric()),
        {"function": "optimistix._misc:max_norm"},
        {"array": [1.0], "dtype": "object"},
        {"array": [[1.0], 2.0], "dtype": "float64"},
        {"dtype": "V1000000000"},
        {"dict": [[{"list": []}, 1]]},
        {"tuple": 5},
        {"unknown": CALLS},
        {},
        [],
        "nuts",
        None,
    ],
)
def test_a_sampler_that_is_none_is_refused(honest, canary, sampler):
    refused(plan_with(honest, sampler=sampler), "sampler|target_|max_tree|plan")


def test_a_setting_is_not_nested_without_end(honest, canary):
    deep = None
    for _ in range(300):
        deep = {"list": [deep]}
    refused(plan_with(honest, sampler=deep), "too deeply")
    arrays, header = honest
    header = json.dumps(header | {"sampler": 0}).replace(
        '"sampler": 0', '"sampler": ' + "[" * 10**5
    )
    refused(pack(arrays | {"header": header}), "cannot be read")


@pytest.mark.parametrize(
    "solver",
    [
        {"norm": CALLS},
        {"norm": {"function": "builtins:exec"}},
        {"rtol": CALLS},
        {"linear_solver": to_plain(samplers.NUTS())},
        {"linear_solver": {"class": "evil_module:Solver", "fields": {}}},
        {"kappa": {"list": []}},
    ],
)
def test_a_root_finder_that_calls_something_is_refused(honest, canary, solver):
    solve = to_plain(odecal.Solve(solver=diffrax.Kvaerno5()))
    solve["fields"]["solver"]["fields"]["root_finder"]["fields"] |= solver
    refused(plan_with(honest, solve=solve), "solver of the run")


@pytest.mark.parametrize(
    "parts",
    [
        {"run": [2, 20, -1]},
        {"run": [0, 20, 10]},
        {"run": [2.5, 20, 10]},
        {"run": [True, 20, 10]},
        {"run": [2, 20]},
        {"run": "abc"},
        {"run": None},
        {"seed": -1},
        {"seed": 2**40},
        {"seed": "4"},
        {"seed": None},
        {"centrings": {"dict": [["rate", NUTS]]}},
        {"centrings": {"dict": [[1, None]]}},
        {"centrings": NUTS},
        {"solve": NUTS},
        {"version": 2},
        {"version": "3"},
        {"system": None},
        {"system": []},
    ],
)
def test_a_plan_of_absurd_parts_is_refused(honest, canary, parts):
    refused(plan_with(honest, **parts), system=ExponentialDecay())


def test_a_plan_without_its_parts_is_refused(honest, canary):
    arrays, header = honest
    for name in header:
        rest = {k: x for k, x in header.items() if k != name}
        refused(pack(arrays | {"header": json.dumps(rest)}))
    for name in arrays.keys() - {"series.y_measured.row"}:  # there is none without a table
        refused(pack({k: x for k, x in arrays.items() if k != name}))
    for other in ("7", "[]", "null", "", "{"):
        refused(pack(arrays | {"header": other}))
    refused(pack(arrays | {"header": np.zeros(3)}))
    refused(b"\x80\x04c__builtin__\neval\n.")


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_only_a_recorded_file_is_run(honest, canary):
    folder = canary.parent
    evil = folder / "evil.py"
    right = digest(evil)
    outside = {"module": "evil", "name": "Tank"}
    for parts in (
        {"file": "evil.py", "files": {"evil.py": right}},  # not absolute
        {"file": str(evil), "files": {str(evil): "0" * 64}},  # another text
        {"file": str(evil), "files": {str(evil): None}},
        {"file": str(evil), "files": {}},
        {"file": str(evil), "files": []},
        {"file": str(evil), "files": {str(folder / "gone.py"): right}},
        {"file": str(evil), "files": {str(folder): right, str(evil): right}},
        {"file": str(folder), "files": {str(evil): right}},
        {"file": "", "files": {}},
        {"file": None, "files": {"\0.py": right}},
        {"module": "odecal.systems.evil", "name": "Tank"},
        {"module": "odecal.systems.evil", "name": "__loader__"},
        {"module": "odecal.systems.evil", "name": "evil_module.Tank"},
        {"module": "odecal._run.netcdf", "name": "os.system", "file": "", "files": {}},
        {"module": None},
    ):
        system = honest[1]["system"] | outside | parts
        refused(plan_with(honest, system=system), "could not be found|cannot be read")


TANK = """
import numpyro.distributions as dist
import odecal
from helper import flow

class Tank(odecal.System):
    t0 = 0.0
    level = odecal.State(initial=1.0)
    k = odecal.Parameter(dist.LogNormal(0.0, 1.0))

    def vector_field(self, t, y, p):
        return {"level": flow(p.k, y.level)}

    gauge = odecal.Observable(lambda t, y, p: odecal.noise.Normal(y.level, 0.1))
"""
HELPER = "import constants\n\ndef flow(k, y):\n    return -k * y * constants.FACTOR\n"


@pytest.fixture
def tank(tmp_path):
    """The plan of a run of a user's system in three files, and their folder."""
    from odecal._system.find import find_system

    (tmp_path / "tank.py").write_text(TANK)
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "constants.py").write_text("FACTOR = 1.0\n")
    (tmp_path / "d.csv").write_text("time,gauge\n1,0.4\n2,0.2\n")
    system = find_system(f"{tmp_path / 'tank.py'}:Tank")
    plan = Plan(
        odecal.compile(system, tmp_path / "d.csv"), samplers.NUTS(), samplers.Run(1, 1, 1), 0
    )
    forget()
    yield plan_to_bytes(plan), tmp_path
    forget()


def forget():
    for name in ("helper", "constants"):
        sys.modules.pop(name, None)


def test_the_file_that_is_run_is_told(tank):
    data, folder = tank
    told = []
    plan = plan_from_bytes(data, Path("x.nc"), None, tell=told.append)
    assert told == [f"Running the system file {folder / 'tank.py'}"]
    assert type(plan.model.system).__name__ == "Tank"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("constants.py", "1.0", "1.5"),
        ("helper.py", "-k", "-2 * k"),
        ("tank.py", "0.1)", "0.2)"),
        ("tank.py", "LogNormal(0.0", "LogNormal(0.00001"),
    ],
)
def test_a_system_whose_helpers_have_changed_is_not_run_and_not_taken(tank, name, old, new):
    from odecal._system.find import find_system

    data, folder = tank
    path = folder / name
    path.write_text(path.read_text().replace(old, new) + f"open({str(folder / 'ran')!r}, 'w')\n")
    refused(data, rf"{name} has changed since the run began, and was not run.*--system")
    assert not (folder / "ran").exists()
    system = find_system(f"{folder / 'tank.py'}:Tank")
    refused(data, r"has changed since|another system", system)


def test_a_file_changed_elsewhere_goes_on_with_the_system_given(tank):
    from odecal._system.find import find_system

    data, folder = tank
    path = folder / "tank.py"
    path.write_text(path.read_text() + "\n# a remark\n")
    refused(data, r"tank.py has changed.*--system")
    system = find_system(f"{path}:Tank")
    assert plan_from_bytes(data, Path("x.nc"), system).model.system is system


ODD = TANK.replace(
    "from helper import flow",
    """
import functools, re, threading
import pandas as pd

TABLE = pd.Series([1.0, 2.0])
REST = [re.compile("x"), threading.Lock(), {}, {1, 2}]
REST.append(REST)
inner = REST
for _ in range(3000):
    inner.append([])
    inner = inner[-1]

@functools.lru_cache
def scale(x):
    return TABLE.iloc[0] * len(REST)

def flow(k, y):
    return -k * y * scale(1)
""",
)


def test_a_system_may_use_anything(tmp_path, monkeypatch):
    from odecal._run.source import SourceDigest
    from odecal._system.find import find_system

    def digest_of(text):
        (tmp_path / "odd.py").write_text(text)
        return SourceDigest(find_system(f"{tmp_path / 'odd.py'}:Tank")).digest

    monkeypatch.setitem(sys.modules, "k", None)  # as Python marks what may not be imported
    assert digest_of(ODD) == digest_of(ODD)
    assert digest_of(ODD) != digest_of(ODD.replace("[1.0, 2.0]", "[1.0, 3.0]"))
    assert digest_of(ODD) != digest_of(ODD.replace("{1, 2}", "{1, 3}"))


def test_overrides_that_tables_do_not_tell_apart_are_other_systems(honest):
    import numpyro.distributions as dist

    def plan(location):
        system = ExponentialDecay(sigma=dist.LogNormal(location, 1.0))
        model = odecal.compile(system, ExponentialDecay().data)
        return plan_to_bytes(Plan(model, samplers.NUTS(), samplers.Run(1, 1, 1), 0)), system

    data, system = plan(0.123456)
    assert plan_from_bytes(data, Path("x.nc"), system).model.system is system
    refused(data, "has changed since", plan(0.123457)[1])


COMMANDS = "\x1b[2J\r\x07"


@pytest.mark.filterwarnings("ignore:The file .* was changed")
def test_a_terminal_is_not_commanded_by_a_file(saved, tmp_path, monkeypatch, capsys):
    from odecal._cli import app

    tree = odecal.load(saved)
    posterior = tree["posterior"].to_dataset()
    name = next(iter(posterior.data_vars))
    posterior[name].attrs["units"] = COMMANDS
    posterior = posterior.rename({name: "x\u202e:smile:[red]"})
    tree["posterior"] = xr.DataTree(posterior)
    odecal.save(tree, tmp_path / "x.nc")
    xr.DataTree.from_dict({"/posterior": xr.Dataset({"a": 1})}).to_netcdf(tmp_path / "y.nc")
    monkeypatch.chdir(tmp_path)
    for file in ("x.nc", "y.nc", "no\x1b[2J.nc"):
        monkeypatch.setattr(sys, "argv", ["odecal", "summary", file])
        with pytest.raises(SystemExit):
            app.main()
        out, err = capsys.readouterr()
        for command in "\x1b\x07\r\u202e":
            assert command not in out + err
        if file == "x.nc":
            assert r"\x1b[2J" in out
            assert r"x\u202e:smile:[red]" in out
        else:
            assert err.startswith("odecal: ")


def test_crafted_files_run_nothing(honest, saved, canary, tmp_path):
    path = tmp_path / "x.nc"
    tree = odecal.load(saved)
    data = plan_with(honest, sampler=nuts(kernel=CALLS))
    checkpoint = tree["checkpoint"].to_dataset().drop_vars("plan")
    (dim,) = tree["checkpoint"]["plan"].dims
    checkpoint["plan"] = (dim, np.frombuffer(data, np.uint8))
    tree["checkpoint"] = xr.DataTree(checkpoint)
    odecal.save(tree, path)  # with a checksum that is right
    with pytest.raises(odecal.OutputError, match="sampler of the run"):
        odecal.extend(path, 10, progress=False)
    path.unlink()
    journal = FileJournal(journal_path(path))
    journal.record_plan(data)
    journal.close()
    with pytest.raises(odecal.OutputError, match="sampler of the run"):
        odecal.resume(path, progress=False)
    assert not path.exists()


def test_a_state_of_another_run_is_refused(honest, saved, tmp_path):
    from odecal._run.checkpoint import read_checkpoint

    other = tmp_path / "y.nc"
    _, warm_start, snapshot = read_checkpoint(saved, complete=True)
    journal = FileJournal(journal_path(other))
    journal.record_plan(plan_with(honest, run=[3, 20, 30], sampler=to_plain(samplers.NUTS())))
    journal.record_start(warm_start)
    journal.record(snapshot)
    journal.close()
    with pytest.raises(odecal.OutputError, match="recorded state does not fit"):
        odecal.resume(other, progress=False)
