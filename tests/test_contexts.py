"""Contexts and caches of calls: opened by hand, with overridden params, with methods that run once."""

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import caskade_pyro as ck


class Line(ck.Module):
    def __init__(self, name=None):
        super().__init__(name)
        self.slope = ck.Param("slope", 2.0, shape=(), dynamic=True)
        self.offset = ck.Param("offset", 1.0, shape=())
        self.twice = ck.Param("twice", lambda p: 2 * p.slope.value, link=self.slope)
        self.four_times = ck.Param("four_times", self.twice)
        self.now = ck.Param("now", None, dynamic=False)
        self.runs = []

    @ck.forward
    def at(self, x, slope, offset):
        return slope * x + offset

    @ck.forward
    def pointers(self, twice, four_times):
        return twice + four_times

    @ck.active_cache
    @ck.forward
    def square(self, slope):
        self.runs.append(1)
        return slope**2

    @ck.active_cache
    @ck.forward
    def of_live(self, now):
        return now * 10

    @ck.forward
    def squares(self, *others):
        return torch.stack([self.square(), *(other() for other in others), self.square()])


@pytest.fixture
def line():
    return Line()


# ActiveContext


def test_params_are_filled_once_for_several_methods(line):
    """Within the context forward methods see the params that were filled, and take none themselves."""
    with ck.ActiveContext(line) as opened:
        assert opened is line
        assert line.active
        line.fill_params([3.0])
        assert line.at(2.0) == 7
        assert line.pointers() == 12
        line.fill_params(torch.tensor([5.0]))
        assert line.pointers() == 20
    assert not line.active
    assert line.slope.value == 2


def test_without_fill_the_values_of_the_graph_hold(line):
    """An opened call starts from the values that the graph holds."""
    with ck.ActiveContext(line):
        assert line.at(1.0) == 3


def test_static_params_can_be_filled(line):
    """Static params, too, can have other values for one call."""
    with ck.ActiveContext(line):
        line.fill_params({"offset": 10.0, "now": 0.0}, dynamic=False)
        assert line.at(1.0) == 12
    assert line.offset.value == 1


def test_fill_params_needs_the_context(line):
    """Outside of the context, and for another module than the one it opened, filling is refused."""
    outer = ck.Module("outer")
    outer.line = line
    with pytest.raises(ck.ActiveStateError, match="ActiveContext"):
        line.fill_params([3.0])
    with ck.ActiveContext(outer), pytest.raises(ck.ActiveStateError, match="ActiveContext"):
        line.fill_params([3.0])


def test_fill_params_under_a_later_transform_is_refused(line):
    """Values filled under a vmap that was entered after the context would outlive it."""
    with ck.ActiveContext(line), pytest.raises(ck.ActiveStateError, match="torch transform"):
        torch.vmap(lambda x: line.fill_params([x]))(torch.ones(3))


def test_a_context_inside_of_vmap(line):
    """A context that is opened under a transform works there."""

    def one(x):
        with ck.ActiveContext(line):
            line.fill_params([x])
            return line.at(1.0)

    assert torch.equal(torch.vmap(one)(torch.tensor([1.0, 2.0])), torch.tensor([2.0, 3.0]))


def test_a_running_call_cannot_be_opened_again(line):
    """Opening a module that runs is refused, and the running call goes on."""
    with ck.ActiveContext(line):
        line.fill_params([3.0])
        with pytest.raises(ck.ActiveStateError, match="runs already"), ck.ActiveContext(line):
            pass
        assert line.at(0.0) == 1


def test_edits_are_refused_while_open(line):
    """The graph cannot change while a call of it is open."""
    with ck.ActiveContext(line):
        with pytest.raises(ck.ActiveStateError):
            line.slope = 3.0
        with pytest.raises(ck.ActiveStateError):
            line.set_values([3.0])


@pytest.mark.parametrize("valid_outside", [True, False])
def test_valid_context_and_active_context(valid_outside):
    """Params are filled unconstrained whichever of the two contexts is the outer one."""
    line = Line()
    line.slope.valid = (0.0, None)
    contexts = [ck.ValidContext(line), ck.ActiveContext(line)]
    first, second = contexts if valid_outside else reversed(contexts)
    with first, second:
        line.fill_params([0.0])
        assert line.at(1.0) == 2


# OverrideParam around calls


def test_an_override_holds_for_calls_and_vanishes(line):
    """Calls made inside see the value whatever they are given; afterwards all is as before."""
    with ck.OverrideParam(line.slope, 5.0) as param:
        assert param is line.slope
        assert line.at(1.0, [3.0]) == 6
        assert line.at(1.0) == 6
        assert line.slope.value == 5
        assert line.slope.stored_value == 2
        assert line.get_values() == 5
    assert line.at(1.0, [3.0]) == 4
    assert line.slope.value == 2


def test_pointers_follow_an_override(line):
    """Direct pointers and functions see the overridden value, in calls and outside of them."""
    with ck.OverrideParam(line.slope, 5.0):
        assert line.four_times.value == 10
        assert line.pointers([3.0]) == 20
    assert line.four_times.value == 4


def test_a_pointer_can_be_overridden(line):
    """What depends on an overridden pointer sees its value; what it pointed to is left alone."""
    with ck.OverrideParam(line.twice, 100.0):
        assert line.pointers([3.0]) == 200
        assert line.slope.value == 2
    assert line.pointers([3.0]) == 12


def test_overrides_nest(line):
    """The innermost override of a param holds, and each leaves what it found."""
    with ck.OverrideParam(line.slope, 5.0):
        with ck.OverrideParam(line.slope, 6.0), ck.OverrideParam(line.offset, 0.0):
            assert line.at(1.0) == 6
        assert line.at(1.0) == 6
        assert line.offset.value == 1
    assert line.at(1.0) == 3


def test_one_context_can_be_entered_twice(line):
    """The object that makes an override holds no state of its own."""
    override = ck.OverrideParam(line.slope, 5.0)
    with override, override:
        assert line.slope.value == 5
    with override:
        assert line.slope.value == 5
    assert line.slope.value == 2


def test_an_exception_ends_an_override(line):
    """Whatever goes wrong inside, nothing is left behind."""
    with pytest.raises(ZeroDivisionError), ck.OverrideParam(line.slope, 5.0):
        raise ZeroDivisionError
    assert line.slope.value == 2


def test_a_param_without_a_value_can_be_overridden():
    """An override stands in for a value that is missing, a live param's too."""
    line = Line()
    line.slope.value = None
    with pytest.raises(ck.FillParamsError):
        line.at(1.0)
    with ck.OverrideParam(line.slope, 5.0), ck.OverrideParam(line.now, 1.0):
        assert line.at(1.0) == 6
        assert line.of_live() == 10


def test_what_does_not_fit_is_refused(line):
    """A wrong shape, something that is no number, and something that is no param are errors that say so."""
    wide = ck.Module("m")
    wide.x = ck.Param("x", shape=(2,))
    with pytest.raises(ck.FillParamsError, match=r"m\.x"):
        ck.OverrideParam(wide.x, torch.zeros(3))
    with pytest.raises(ck.ParamTypeError):
        ck.OverrideParam(line.slope, "steep")
    with pytest.raises(ck.ParamTypeError):
        ck.OverrideParam(line, 1.0)


def test_an_override_reaches_members():
    """A param in a plate is overridden for all members, or with a value for each."""

    class Lines(ck.Module):
        def __init__(self, line):
            super().__init__()
            self.hierarchical_link("lines", line, size=3)

        @ck.forward
        def at(self, x):
            return ck.vmap(self.lines.at)(x)

    line = Line()
    line.slope.value = None
    lines = Lines(line)
    given = torch.tensor([1.0, 2.0, 3.0])
    with ck.OverrideParam(line.offset, 10.0):
        assert torch.equal(lines.at(torch.tensor(1.0), given), given + 10)
    with ck.OverrideParam(line.slope, given * 7):
        assert torch.equal(lines.at(torch.tensor(1.0), given), given * 7 + 1)


# OverrideParam inside of calls


class Overriding(ck.Module):
    def __init__(self):
        super().__init__()
        self.line = Line()

    @ck.forward
    def run(self):
        before = self.line.pointers()
        with ck.OverrideParam(self.line.slope, 7.0):
            inside = self.line.pointers(), self.line.at(1.0), self.line.slope.value
            with ck.OverrideParam(self.line.slope, 8.0):
                nested = self.line.pointers()
            again = self.line.pointers()
        return before, inside, nested, again, self.line.pointers()

    @ck.forward
    def failing(self):
        try:
            with ck.OverrideParam(self.line.slope, 7.0):
                raise ZeroDivisionError
        except ZeroDivisionError:
            return self.line.at(1.0)

    @ck.forward
    def live(self):
        self.line.now = 1.0
        with ck.OverrideParam(self.line.now, 2.0):
            overridden = self.line.now.value
            self.line.now = 3.0
        return overridden, self.line.now.value

    @ck.forward
    def mapped(self, xs):
        def one(x):
            with ck.OverrideParam(self.line.slope, x):
                return self.line.pointers()

        return torch.vmap(one)(xs), self.line.pointers()


def test_an_override_inside_of_a_call():
    """It holds for the rest of its block, nests, and pointers are computed anew inside and after it."""
    before, inside, nested, again, after = Overriding().run([3.0])
    assert before == after == 12
    assert inside == (28, 8, 7)
    assert nested == 32
    assert again == 28


def test_an_override_that_fails_inside_of_a_call():
    """A call that catches an exception goes on with the values from before the override."""
    assert Overriding().failing([3.0]) == 4


def test_a_live_param_inside_of_its_override():
    """What is set inside of an override of the same param ends with it."""
    assert Overriding().live([3.0]) == (2, 1)


def test_an_override_under_vmap():
    """Each element of a vmap can have its own value, and nothing of it leaks out."""
    mapped, after = Overriding().mapped(torch.tensor([1.0, 2.0]), [3.0])
    assert torch.equal(mapped, torch.tensor([4.0, 8.0]))
    assert after == 12


def test_calls_with_overrides_transform_and_compile():
    """Overrides around calls agree with plain calls under vmap, jacrev and torch.compile."""
    line = Line()
    x = torch.tensor(2.0)
    compiled = torch.compile(line.at, fullgraph=True, backend="eager")
    assert compiled(x, torch.tensor([3.0])) == 7
    with ck.OverrideParam(line.offset, 10.0):
        assert compiled(x, torch.tensor([3.0])) == 16
        assert torch.equal(torch.vmap(line.at, (None, 0))(x, torch.ones(2, 1)), torch.full((2,), 12.0))
        assert torch.func.jacrev(line.at, 1)(x, torch.ones(1)) == 2
    assert compiled(x, torch.tensor([3.0])) == 7


@given(st.lists(st.tuples(st.sampled_from(["slope", "offset", "twice"]), st.floats(-9, 9)), max_size=5))
def test_any_nest_of_overrides_leaves_the_graph_as_it_was(overrides):
    """Whatever is overridden in whatever order: inside the last ones hold, after an exception nothing does."""
    line = Line()
    before = line.get_values("dict"), line.get_values("dict", dynamic=False, attribute="stored_value")
    entered = []

    def nest(rest):
        if not rest:
            last = dict(overrides)
            for name, value in last.items():
                assert line[name].value == torch.tensor(value)
            raise ZeroDivisionError
        name, value = rest[0]
        with ck.OverrideParam(line[name], value):
            entered.append(name)
            nest(rest[1:])

    with pytest.raises(ZeroDivisionError):
        nest(overrides)
    assert len(entered) == len(overrides)
    assert before == (line.get_values("dict"), line.get_values("dict", dynamic=False, attribute="stored_value"))


def test_threads_do_not_see_each_other():
    """Each thread has its own overrides, opened calls and unconstrained values of one module."""
    line = Line()
    line.slope.valid = (0.0, None)
    barrier = threading.Barrier(3)
    wrong = []

    def overriding(value):
        for _ in range(100):
            with ck.OverrideParam(line.slope, value):
                if line.at(1.0) != value + 1 or line.four_times.value != 2 * value:
                    wrong.append(value)
            with ck.ActiveContext(line):
                line.fill_params([value])
                barrier.wait()
                if line.at(1.0) != value + 1:
                    wrong.append(value)

    def freed():
        for _ in range(100):
            with ck.ValidContext(line):
                barrier.wait()
                if line.get_values() != torch.tensor(2.0).log() or line.at(1.0, [0.0]) != 2:
                    wrong.append("valid")

    threads = [threading.Thread(target=overriding, args=(value,)) for value in (3.0, 5.0)]
    threads.append(threading.Thread(target=freed))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# active_cache


def test_a_cached_method_runs_once_for_each_call(line):
    """The first result serves the rest of the call; the next call starts anew."""
    assert torch.equal(line.squares([3.0]), torch.tensor([9.0, 9.0]))
    assert len(line.runs) == 1
    assert torch.equal(line.squares([4.0]), torch.tensor([16.0, 16.0]))
    assert len(line.runs) == 2


def test_outside_of_calls_a_cached_method_just_runs(line):
    """Nothing is kept between calls that are not part of a call."""
    assert line.square([3.0]) == 9
    assert line.square([4.0]) == 16
    assert len(line.runs) == 2


def test_a_failing_cached_method_is_not_kept(line):
    """An exception is no result."""
    with ck.ActiveContext(line):
        with pytest.raises(ck.FillParamsError):
            line.of_live()
        line.now = 1.0
        assert line.of_live() == 10


def test_a_new_value_of_a_live_param_runs_it_again(line):
    """What a cached method has read decides how long its result is good for."""
    with ck.ActiveContext(line):
        line.now = 1.0
        assert line.of_live() == 10
        assert line.square() == 4
        line.now = 2.0
        assert line.of_live() == 20
        assert line.square() == 4
    assert len(line.runs) == 1


def test_an_override_runs_it_again(line):
    """Inside of an override of what it read a cached method runs anew; after it the first result is back."""
    with ck.ActiveContext(line):
        assert line.square() == 4
        with ck.OverrideParam(line.slope, 5.0):
            assert line.square() == 25
            assert line.square() == 25
        with ck.OverrideParam(line.offset, 5.0):
            assert line.square() == 4
        assert line.square() == 4
        assert line.square(slope=torch.tensor(6.0)) == 36
        assert line.square(params=[7.0]) == 49
        assert line.square() == 4


def test_results_under_vmap_stay_there(line):
    """A result of a mapped function is not kept for what runs outside of it."""
    with ck.ActiveContext(line):
        mapped = torch.vmap(lambda x: line.square(slope=x) + line.squares(lambda: x).sum())(torch.tensor([1.0, 2.0]))
        assert torch.equal(mapped, torch.tensor([10.0, 14.0]))
        assert line.square() == 4


def test_a_result_made_under_vmap_is_not_kept_for_after_it():
    """The cache of the surrounding call holds no batched tensors."""

    class Noisy(ck.Module):
        def __init__(self):
            super().__init__()
            self.a = ck.Param("a", 1.0, shape=())

        @ck.active_cache
        @ck.forward
        def first(self, x, a):
            return a * x

        @ck.forward
        def both(self, xs):
            return torch.vmap(self.first)(xs), self.first(torch.tensor(5.0))

    mapped, after = Noisy().both(torch.tensor([1.0, 2.0]))
    assert torch.equal(mapped, torch.tensor([1.0, 2.0]))
    assert after == 5


def test_subclasses_have_caches_of_their_own(line):
    """A method that calls the one it overrides does not get its own result back."""

    class Steeper(Line):
        @ck.active_cache
        @ck.forward
        def square(self, slope):
            return super().square() + 1

    steeper = Steeper()
    assert torch.equal(steeper.squares([3.0]), torch.tensor([10.0, 10.0]))
    assert len(steeper.runs) == 1


def test_members_of_a_plate_have_caches_of_their_own(line):
    """Each member computes its own result, once."""

    class Lines(ck.Module):
        def __init__(self, line):
            super().__init__()
            self.hierarchical_link("lines", line, size=2)

        @ck.forward
        def run(self):
            return ck.vmap(self.lines.squares)()

    line.slope.value = None
    assert torch.equal(Lines(line).run(torch.tensor([1.0, 2.0])), torch.tensor([[1.0, 1.0], [4.0, 4.0]]))
    assert len(line.runs) == 1


def test_calls_with_cached_methods_compile(line):
    """A compiled call gives what the plain one gives."""
    compiled = torch.compile(line.squares, fullgraph=True, backend="eager")
    assert torch.equal(compiled(torch.tensor([3.0])), torch.tensor([9.0, 9.0]))


def test_a_cached_method_keeps_its_name():
    """Help and tracebacks show the method itself."""
    assert Line.square.__name__ == "square"
