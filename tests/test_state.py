"""Saving, appending and loading the state of a graph in HDF5 files."""

import pickle
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import caskade
import h5py
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import caskade_pyro as ck
from caskade_pyro.graph.files import state


class Galaxy(ck.Module):
    def __init__(self, name="galaxy", scale=None):
        super().__init__(name)
        self.x0 = ck.Param("x0", [1.0, 2.0], shape=(2,), units="pixel")
        self.flux = ck.Param("flux", 3.0, valid=(0.0, None), dynamic=True)
        self.angle = ck.Param("angle", 0.5, valid=(0.0, 2.0), cyclic=True)
        self.scale = scale or ck.Param("scale", 0.1)


def survey():
    """Two galaxies that share a param, with a pointer, a live param and saved attributes."""
    scale = ck.Param("scale", 0.1)
    module = ck.Module("survey")
    module.first = Galaxy("first", scale)
    module.second = Galaxy("second", scale)
    module.double = ck.Param("double", twice, link=scale)
    module.live = ck.Param("live", None, dynamic=False)
    module.free = ck.Param("free", shape=())
    return module


def twice(param):
    return 2 * param.scale.value


def everything(module):
    """All that a state holds, in a form that can be compared."""
    return [
        (
            node.role,
            None if node.stored_value is None else (node.stored_value.dtype, node.stored_value.tolist()),
            [None if bound is None else bound.tolist() for bound in node.valid],
            node.cyclic,
            node.units,
        )
        for node in module.structure.params
    ]


@pytest.fixture
def file(tmp_path):
    return str(tmp_path / "state.h5")


def three_states(module, file):
    """A file with the states in which the first flux is 0, 1 and 2."""
    for index in range(3):
        module.first.flux = float(index)
        if index == 0:
            module.save_state(file, appendable=True)
        else:
            module.append_state(file)


def fluxes(module, file, count=3):
    found = []
    for index in range(count):
        module.load_state(file, index)
        found.append(module.first.flux.value.item())
    return found


# Round trips


@pytest.mark.parametrize("appendable", [False, True])
def test_what_was_saved_is_loaded(file, appendable):
    """Values, roles, bounds, circles and units come back as they were saved, into the same or an equal graph."""
    module = survey()
    module.first.flux = torch.tensor(7.0, dtype=torch.float64)
    before = everything(module)
    module.save_state(file, appendable)
    module.first.flux.to_static(1.0)
    module.first.x0.to_dynamic([5.0, 5.0])
    module.second.angle.cyclic = False
    module.second.angle.valid = (-9.0, 9.0)
    module.second.x0.units = None
    module.live.to_static(3.0)
    module.free = 2.0
    assert everything(module) != before
    module.load_state(file)
    assert everything(module) == before
    other = survey()
    other.load_state(Path(file))
    assert everything(other) == before


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor(0.1, dtype=torch.float64),
        torch.tensor([1.5, -2.5], dtype=torch.bfloat16),
        torch.tensor([1.5], dtype=torch.float16),
        torch.tensor([1, 2**40]),
        torch.tensor([True, False]),
        torch.tensor([1 + 2j]).conj(),
        torch.zeros(0),
        torch.zeros(2, 0, 3),
        torch.tensor([float("nan"), float("inf")]),
        torch.ones(3, requires_grad=True),
        torch.ones(40_000),
    ],
    ids=lambda value: f"{str(value.dtype)[6:]}-{tuple(value.shape)}",
)
@pytest.mark.parametrize("appendable", [False, True])
def test_values_of_every_kind(file, value, appendable):
    """Values of each dtype and shape, empty ones too, come back exactly."""
    module = ck.Module("m")
    module.p = ck.Param("p", value)
    module.save_state(file, appendable)
    if appendable:
        module.append_state(file)
    module.p.to_static(None)
    module.load_state(file)
    assert module.p.value.dtype is value.dtype
    assert torch.equal(torch.nan_to_num(module.p.value), torch.nan_to_num(value.detach()))


def test_bounds_for_every_entry_of_a_large_param(file):
    """Bounds that are too large for an attribute of HDF5 are kept all the same."""
    module = ck.Module("m")
    module.p = ck.Param("p", torch.ones(20_000), valid=(torch.zeros(20_000), torch.full((20_000,), 2.0)))
    module.save_state(file)
    module.p.valid = None
    module.load_state(file)
    assert torch.equal(module.p.valid[1], torch.full((20_000,), 2.0))


def test_the_file_can_be_read_by_people(file):
    """The groups follow the links, a shared param is stored once, and attributes say what a value is."""
    module = survey()
    module.save_state(file)
    with h5py.File(file) as found:
        assert found["survey/first/x0/value"][()].tolist() == [1.0, 2.0]
        assert found["survey/first/scale"] == found["survey/second/scale"] == found["survey/double/scale"]
        assert found["survey/double/value"][()] == pytest.approx(0.2)
        assert found["survey/live/value"][()] == b"None"
        attributes = dict(found["survey/first/flux/value"].attrs)
        assert attributes["node_type"] == "dynamic"
        assert attributes["valid_left"] == 0.0
        assert not attributes["appendable"]
        assert found["survey/first/x0/value"].attrs["units"] == "pixel"


def test_an_open_file_holds_several_graphs(file):
    """States go to, and come from, an open file, which takes each name once."""
    one, other = Galaxy("one"), Galaxy("other")
    with h5py.File(file, "w") as opened:
        one.save_state(opened, appendable=True)
        other.save_state(opened)
        one.flux = 9.0
        one.append_state(opened)
        with pytest.raises(ck.StateFileError, match="already holds 'one'"):
            one.save_state(opened)
        one.load_state(opened, 0)
        assert one.flux.value.item() == 3.0
    one.load_state(file)
    other.load_state(file)
    assert one.flux.value.item() == 9.0


def test_saved_attributes(file):
    """Attributes that a node wants saved come back with their kinds; what HDF5 cannot hold is a warning."""
    module = Galaxy()
    values = {"number": 3, "text": "NONE", "flag": True, "pair": (1, 2), "tensor": torch.ones(2), "nothing": None}
    for name, value in values.items():
        setattr(module, name, value)
    module.saveattrs.update(values, {"meta.note"})
    module.meta.note = "seen"
    module.save_state(file)
    for name, value in values.items():
        setattr(module, name, type(value)() if value is not None else 5)
    module.meta.note = ""
    module.load_state(file)
    assert {name: getattr(module, name) for name in ("number", "flag", "pair", "nothing")} == {
        name: values[name] for name in ("number", "flag", "pair", "nothing")
    }
    assert module.tensor.tolist() == [1.0, 1.0]
    assert module.meta.note == "seen"
    assert module.text == "NONE"
    module.saveattrs.add("odd")
    module.odd = object()
    with pytest.warns(ck.SaveStateWarning, match="galaxy: the attribute 'odd' cannot be saved"):
        module.save_state(file)
    module.load_state(file)


def test_a_pointer_that_cannot_be_computed_is_saved_without_value(file):
    """A pointer function that fails is a warning, one whose inputs have no value yet is not even that."""
    module = ck.Module("m")
    module.a = ck.Param("a", 0.0)
    module.b = ck.Param("b", shape=())
    module.waits = ck.Param("waits", lambda p: p.b.value + 1, link=module.b)
    module.save_state(file)
    module.fails = ck.Param("fails", lambda p: 1 / int(p.a.value), link=module.a)
    with pytest.warns(ck.SaveStateWarning, match="m.fails: the value of this pointer"):
        module.save_state(file)
    module.load_state(file)


def test_a_param_or_a_collection_alone_has_a_state(file):
    """Any node can be saved: a param, a list of modules."""
    param = ck.Param("p", 1.0)
    param.save_state(file)
    param.value = 2.0
    param.load_state(file)
    assert param.value.item() == 1.0
    nodes = ck.NodeList([Galaxy(), Galaxy()], name="nodes")
    nodes[1].flux = 8.0
    nodes.save_state(file)
    nodes[1].flux = 1.0
    nodes.load_state(file)
    assert nodes[1].flux.value.item() == 8.0


VALUES = st.one_of(
    st.none(),
    st.floats(-1e3, 1e3, width=32).map(torch.tensor),
    st.lists(st.floats(-1e3, 1e3), max_size=3).map(lambda v: torch.tensor(v, dtype=torch.float64)),
    st.integers(-5, 5).map(torch.tensor),
)
SPECIFICATIONS = st.tuples(VALUES, st.booleans(), st.sampled_from([None, "m", "é <b>"]), st.integers(0, 2**8 - 1))


def random_graph(specifications):
    """Eight modules of which each links to some later ones, and params that each hang below some modules."""
    modules = [ck.Module(f"m{i}") for i in range(8)]
    for i, module in enumerate(modules[1:], start=1):
        for j in range(i):
            if j == i - 1 or (7 * i + 3 * j) % 4 == 0:
                setattr(modules[j], f"child_{i}", module)
    for i, (value, dynamic, units, owners) in enumerate(specifications):
        param = ck.Param(f"p{i}", value, dynamic=dynamic, units=units)
        for j, module in enumerate(modules):
            if owners >> j & 1:
                setattr(module, f"param_{i}", param)
    return modules[0]


@settings(max_examples=30)
@given(st.lists(SPECIFICATIONS, max_size=5), st.booleans())
def test_any_graph_round_trips(specifications, appendable):
    """The state of a random graph, saved and loaded into a copy with everything changed, is what it was."""
    module = random_graph(specifications)
    other = pickle.loads(pickle.dumps(module))
    for param in other.structure.params:
        param.to_static(None)
        param.units = "changed"
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "state.hdf5")
        module.save_state(file, appendable)
        if appendable:
            module.append_state(file)
        other.load_state(file)
    assert everything(other) == everything(module)


# Appending


def test_each_state_can_be_loaded(file):
    """Appended states are loaded by their index, counted from either end."""
    module = survey()
    three_states(module, file)
    assert fluxes(module, file) == [0.0, 1.0, 2.0]
    module.load_state(file)
    assert module.first.flux.value.item() == 2.0
    module.load_state(file, -3)
    assert module.first.flux.value.item() == 0.0
    with pytest.raises(ck.StateFileError, match="holds 3 complete states; there is no state 3"):
        module.load_state(file, 3)


def test_only_an_appendable_file_takes_more(file):
    """A file that was saved without appendable=True takes no further state, and says how it would."""
    module = survey()
    module.save_state(file)
    with pytest.raises(ck.StateFileError, match="save it with appendable=True"):
        module.append_state(file)
    module.load_state(file)


@pytest.mark.parametrize(
    ("edit", "difference"),
    [
        (lambda m: m.first.flux.to_static(), "survey.first.flux: static in the graph, dynamic in the file"),
        (
            lambda m: m.first.flux.to_dynamic([1.0, 2.0]),
            r"first.flux: a value of shape \(2,\) in the graph, of \(\) in",
        ),
        (lambda m: m.first.flux.to_dynamic(None), "survey.first.flux: no value in the graph, a value in the file"),
        (lambda m: m.live.to_static(1.0), "survey.live: a value in the graph, no value in the file"),
        (lambda m: m.to(dtype=torch.float64), "first.flux: torch.float64 in the graph, torch.float32 in the file"),
        (lambda m: m.unlink("live"), "survey.live: in the file only"),
    ],
)
def test_a_state_of_another_graph_is_not_appended(file, edit, difference):
    """A state that is no further row of the file is refused, and the file stays as it was."""
    module = survey()
    three_states(module, file)
    before = Path(file).read_bytes()
    edit(module)
    with pytest.raises(ck.StateMismatchError, match=difference):
        module.append_state(file)
    assert Path(file).read_bytes() == before


class Interruption(Exception):
    pass


def interrupt(monkeypatch, name, at, action):
    """Let a step of writing do something else the n-th time."""
    real, calls = getattr(state, name), []

    def step(*args):
        calls.append(args)
        if len(calls) == at:
            action()
        return real(*args)

    monkeypatch.setattr(state, name, step)


def stop():
    raise Interruption


@pytest.mark.parametrize("at", range(1, 9))
@pytest.mark.parametrize("open_file", [False, True])
def test_an_append_that_breaks_off_loses_nothing(file, monkeypatch, at, open_file):
    """An append that fails between any two writes leaves the earlier states complete, and the next append works."""
    module = survey()
    three_states(module, file)
    module.first.flux = 99.0
    with monkeypatch.context() as patch:
        interrupt(patch, "write_row", at, stop)
        if open_file:
            with h5py.File(file, "r+") as opened, pytest.raises(Interruption):
                module.append_state(opened)
        else:
            with pytest.raises(Interruption):
                module.append_state(file)
    assert fluxes(survey(), file) == [0.0, 1.0, 2.0]
    with pytest.raises(ck.StateFileError, match="3 complete states"):
        module.load_state(file, 3)
    module.first.flux = 3.0
    module.append_state(file)
    assert fluxes(module, file, 4) == [0.0, 1.0, 2.0, 3.0]
    assert [one.name for one in Path(file).parent.iterdir()] == ["state.h5"]


@pytest.mark.parametrize("at", range(1, 9))
def test_a_copy_in_the_midst_of_an_append_is_complete(file, tmp_path, monkeypatch, at):
    """A copy of the file that is taken while an append writes opens and holds every earlier state."""
    module = survey()
    three_states(module, file)
    taken = str(tmp_path / "copy.h5")
    interrupt(monkeypatch, "write_row", at, lambda: shutil.copy(file, taken))
    module.append_state(file)
    assert fluxes(survey(), taken) == [0.0, 1.0, 2.0]


KILLED = """
import os, sys
sys.path.insert(0, {folder!r})
import caskade_pyro.graph.files.state as state
import test_state
real, calls = state.{step}, []
def step(*args):
    calls.append(args)
    if len(calls) == {at}:
        args[0].file.flush()
        os.kill(os.getpid(), 9)
    return real(*args)
state.{step} = step
module = test_state.survey()
module.first.flux = 99.0
module.{action}
"""


@pytest.mark.parametrize(
    ("step", "at", "action"),
    [("write_row", 5, "append_state({file!r})"), ("write", 3, "save_state({file!r})")],
    ids=["append", "save"],
)
def test_a_killed_process_leaves_the_file_as_it_was(file, step, at, action):
    """A process that is killed in the midst of writing leaves a file that opens and holds all that it held."""
    three_states(survey(), file)
    script = KILLED.format(folder=str(Path(__file__).parent), step=step, at=at, action=action.format(file=file))
    run = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, timeout=120, capture_output=True)
    assert run.returncode == -9, run.stderr.decode()
    assert fluxes(survey(), file) == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("open_file", [False, True])
def test_a_save_that_breaks_off_leaves_what_was_there(file, monkeypatch, open_file):
    """A save that fails half-way leaves the former file, or the open file without anything of it."""
    module = survey()
    three_states(module, file)
    interrupt(monkeypatch, "write", 3, stop)
    if open_file:
        with h5py.File(file, "r+") as opened:
            del opened["survey"]
            with pytest.raises(Interruption):
                module.save_state(opened)
            assert list(opened) == []
    else:
        with pytest.raises(Interruption):
            module.save_state(file)
        assert fluxes(module, file) == [0.0, 1.0, 2.0]


def test_an_append_beside_another_is_not_lost_silently(file, monkeypatch):
    """If someone else changes the file during an append, that append is an error rather than a loss."""
    module, other = survey(), survey()
    module.save_state(file, appendable=True)
    done = []

    def meanwhile():
        if not done:
            done.append(True)
            other.append_state(file)

    interrupt(monkeypatch, "write_row", 1, meanwhile)
    with pytest.raises(ck.StateFileError, match="changed by someone else"):
        module.append_state(file)
    module.load_state(file, 1)


# Files of other graphs


def test_all_differences_are_listed_and_nothing_changes(file):
    """Loading into a changed graph lists every difference at once and changes nothing."""
    survey().save_state(file)
    module = survey()
    module.unlink("live")
    module.extra = ck.Module("extra")
    module.first.unlink("x0")
    module.first.x0 = ck.Param("x0", [1.0, 2.0, 3.0], shape=(3,))
    module.second.unlink("scale")
    module.second.scale = ck.Param("scale", 0.3)
    module.second.flux.to_pointer(module.first.flux)
    module.second.unlink("angle")
    module.second.angle = ck.Module("angle")
    module.first.angle = 1.5
    before = everything(module)
    with pytest.raises(ck.StateMismatchError) as caught:
        module.load_state(file)
    text = str(caught.value)
    for line in (
        "survey.live: in the file only",
        "survey.extra: in the graph only",
        "survey.first.x0: the file has a value of shape (2,)",
        "survey.second.scale: in the file the same node as survey.first.scale, in the graph another",
        "survey.second.flux: pointer in the graph, dynamic in the file",
        "survey.second.angle",
    ):
        assert line in text
    assert everything(module) == before


def test_a_node_that_the_graph_shares_and_the_file_does_not(file):
    """Two nodes of the file that are one in the graph could hold two values, so they are a difference."""
    apart = survey()
    apart.second.unlink("scale")
    apart.second.scale = ck.Param("scale", 0.3)
    apart.save_state(file)
    with pytest.raises(ck.StateMismatchError, match="in the graph the same node as"):
        survey().load_state(file)


def test_a_file_of_higher_precision_is_not_rounded(file):
    """A value that the declared dtype of a param cannot hold is a difference, not a rounded value."""
    module = ck.Module("m")
    module.p = ck.Param("p", torch.tensor(0.1, dtype=torch.float64))
    module.save_state(file)
    module.to(dtype=torch.float32)
    with pytest.raises(ck.StateMismatchError, match=r"m.p: torch.float32 in the graph cannot hold torch.float64"):
        module.load_state(file)


def test_a_load_that_fails_at_the_end_changes_nothing(file):
    """If the last attribute cannot be set, everything that was set before it goes back."""

    class Picky(Galaxy):
        @property
        def mood(self):
            return 1

        @mood.setter
        def mood(self, value):
            raise Interruption

    module = Picky("picky")
    module.saveattrs |= {"mood", "meta.note"}
    module.meta.note = "then"
    module.save_state(file)
    module.flux.to_static(50.0)
    module.meta.note = "now"
    before = everything(module)
    with pytest.raises(Interruption):
        module.load_state(file)
    assert everything(module) == before
    assert module.dynamic_params == ()
    assert module.meta.note == "now"


def test_attributes_that_nobody_asked_for_are_not_set(file):
    """A file can set those attributes only that the graph names itself."""
    module = Galaxy()
    module.save_state(file)
    with h5py.File(file, "r+") as opened:
        opened["galaxy"].attrs["__class__"] = "os.system"
    with pytest.raises(ck.StateMismatchError, match=r"galaxy: the attribute '__class__' in the file only"):
        module.load_state(file)


def test_links_out_of_the_file_are_not_followed(file, tmp_path):
    """A link from the file to another file, or to another place by name, is no node."""
    module = survey()
    module.save_state(file)
    module.save_state(str(tmp_path / "other.h5"))
    with h5py.File(file, "r+") as opened:
        del opened["survey/first"]
        opened["survey/first"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/survey/first")
    with pytest.raises(ck.StateMismatchError, match=r"survey.first: in the graph only"):
        module.load_state(file)


def test_files_that_are_no_states(file, tmp_path):
    """Files of other formats, other names, or that are not there, are errors that say so."""
    module = survey()
    with pytest.raises(ck.StateFormatError, match=r"named \*.h5"):
        module.save_state(str(tmp_path / "state.txt"))
    with pytest.raises(NotImplementedError):
        module.load_state("state.pickle")
    with pytest.raises(ck.StateFileError, match=r"its name or an open h5py.File"):
        module.save_state(3)
    for action in (module.load_state, module.append_state):
        with pytest.raises(FileNotFoundError):
            action(file)
    Path(file).write_text("no HDF5")
    for action in (module.load_state, module.append_state):
        with pytest.raises(ck.StateFileError, match="cannot be opened as an HDF5 file"):
            action(file)
    assert isinstance(ck.StateFileError("x"), OSError)
    Galaxy("other").save_state(file)
    with pytest.raises(ck.StateFileError, match=r"holds no state of Module\(survey\), but of other"):
        module.load_state(file)
    assert [one.name for one in tmp_path.iterdir()] == ["state.h5"]


def test_a_state_is_not_touched_during_a_call(file):
    """A call neither saves nor loads."""

    class Saving(Galaxy):
        @ck.forward
        def act(self, action):
            action(file)

    module = Saving()
    module.save_state(file, appendable=True)
    for action in (module.save_state, module.append_state, module.load_state):
        with pytest.raises(ck.ActiveStateError, match="the state"):
            module.act(action, module.get_values())


def test_without_h5py_the_error_says_how_to_get_it(file, monkeypatch):
    """Where h5py is not installed the error names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ck.MissingDependencyError, match=r"pip install caskade_pyro\[hdf5\]"):
        survey().save_state(file)


def test_files_of_the_package_caskade_load(file):
    """A file that the package caskade wrote, appended to, loads here."""
    theirs = caskade.Module("m")
    theirs.p = caskade.Param("p", 1.0, units="m", valid=(0, 5))
    theirs.q = caskade.Param("q", [1.0, 2.0], dynamic=True)
    theirs.live = caskade.Param("live", None, dynamic=False)
    theirs.saveattrs.add("note")
    theirs.note = None
    theirs.save_state(file, appendable=True)
    theirs.p.value = 2.0
    theirs.append_state(file)
    ours = ck.Module("m")
    ours.p, ours.q, ours.live = ck.Param("p"), ck.Param("q", 0.0), ck.Param("live", 3.0)
    ours.saveattrs.add("note")
    ours.note = "something"
    ours.load_state(file)
    assert ours.p.value.item() == 2.0
    assert ours.p.static
    assert ours.p.units == "m"
    assert [bound.item() for bound in ours.p.valid] == [0.0, 5.0]
    assert ours.q.dynamic
    assert ours.q.units is None
    assert ours.live.live
    assert ours.note is None
    ours.load_state(file, 0)
    assert ours.p.value.item() == 1.0


# Cost


def ladder(levels):
    """A ladder of diamonds with a param at each joint."""
    top = current = ck.Module("top")
    for level in range(levels):
        joint = ck.Module("joint")
        joint.p = ck.Param("p", float(level))
        current.left, current.right = ck.Module("left"), ck.Module("right")
        current.left.joint = current.right.joint = joint
        current = joint
    return top


def test_a_thousand_diamonds_are_saved_and_loaded(file):
    """A ladder of 1,000 diamonds, which has 2^1000 paths, is saved, appended and loaded."""
    module = ladder(1000)
    before = module.get_values(dynamic=False)
    assert len(before) == 1000
    module.save_state(file, appendable=True)
    module.set_values(before + 1, dynamic=False)
    module.append_state(file)
    module.load_state(file, index=0)
    torch.testing.assert_close(module.get_values(dynamic=False), before)
    module.load_state(file)
    torch.testing.assert_close(module.get_values(dynamic=False), before + 1)


def test_each_node_is_written_once(tmp_path, monkeypatch):
    """Ten times the levels are ten times the writes."""
    counts = []
    for levels in (10, 100):
        writes = []
        with monkeypatch.context() as patch:
            real = state.write
            patch.setattr(state, "write", lambda *args, real=real, writes=writes: (writes.append(args), real(*args)))
            ladder(levels).save_state(str(tmp_path / f"{levels}.h5"))
        counts.append(len(writes))
    assert counts == [10, 100]
