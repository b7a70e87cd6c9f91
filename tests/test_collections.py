"""Lists, tuples and dicts of nodes: they behave as their plain kinds, and their links never get out of step."""

import copy
import pickle
from collections import namedtuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import caskade_pyro as ck

KINDS = {
    "list": lambda nodes: ck.NodeList(nodes, name="nodes"),
    "tuple": lambda nodes: ck.NodeTuple(nodes, name="nodes"),
    "dict": lambda nodes: ck.NodeDict({f"key_{i}": node for i, node in enumerate(nodes)}, name="nodes"),
}


def members(collection):
    return list(collection.values()) if isinstance(collection, dict) else list(collection)


def params(names):
    return [ck.Param(name, float(i)) for i, name in enumerate(names)]


def links(collection):
    return dict(collection.children), [dict(node._parents) for node in collection.children.values()]


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


# What all three share


def test_members_are_children_in_their_order(kind):
    """The members of a collection are its children, in the same order."""
    nodes = params("abc")
    collection = kind(nodes)
    assert members(collection) == nodes
    assert list(collection.children.values()) == nodes
    assert all(collection in node.parents for node in nodes)
    assert repr(collection) == f"{type(collection).__name__}(nodes)[3]"


def test_values_and_roles_of_the_members(kind):
    """Values are read and written, and roles changed, for all members at once."""
    collection = kind(params("abc"))
    assert collection.static
    assert collection.dynamic_params == ()
    collection.to_dynamic()
    assert collection.dynamic
    assert [param.name for param in collection.dynamic_params] == ["a", "b", "c"]
    assert collection.get_values().tolist() == [0.0, 1.0, 2.0]
    collection.set_values(torch.tensor([3.0, 4.0, 5.0]))
    assert [param.value.item() for param in members(collection)] == [3.0, 4.0, 5.0]
    collection.to_static()
    assert collection.static_params == tuple(members(collection))


def test_modules_below_are_reached_on_request(kind):
    """With children_only=False the params of the members are made dynamic too, and then the collection is dynamic."""
    inner = ck.Module("inner")
    inner.p = ck.Param("p", 1.0)
    collection = kind([inner])
    collection.to_dynamic()
    assert not inner.p.dynamic
    collection.to_dynamic(children_only=False)
    assert inner.p.dynamic
    assert collection.dynamic


def test_equal_to_itself_only(kind):
    """Two collections of the same nodes are different nodes, so they can be told apart and used as keys."""
    nodes = params("ab")
    one, other = kind(nodes), kind(nodes)
    again = one
    assert one == again
    assert one != other
    assert (one == other) is (one != again) is False
    assert len({one, other}) == 2


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_copies_are_graphs_of_their_own(kind, copied):
    """A deep copy and a pickle hold copies of the members, linked as the originals are."""
    module = ck.Module("m")
    module.nodes = kind(params("ab"))
    other = copied(module)
    assert type(other.nodes) is type(module.nodes)
    assert len(other.nodes) == 2
    assert members(other.nodes) == list(other.nodes.children.values())
    assert not set(members(other.nodes)) & set(members(module.nodes))
    assert list(members(other.nodes)[0].parents) == [other.nodes]
    members(other.nodes)[0].value = 7.0
    assert members(module.nodes)[0].value.item() == 0.0


def test_a_shallow_copy_has_the_same_members(kind):
    """A shallow copy is another collection of the same nodes."""
    collection = kind(params("ab"))
    other = copy.copy(collection)
    assert other is not collection
    assert members(other) == members(collection)
    assert other in members(collection)[0].parents


def test_what_is_no_node_is_refused(kind):
    """A member that is no node is an error that says what to do, and leaves no links behind."""
    node = ck.Param("a", 1.0)
    with pytest.raises(
        ck.CollectionError, match="holds nodes only, not 3 of type int; wrap a value as Param"
    ) as caught:
        kind([node, 3])
    assert isinstance(caught.value, TypeError)
    assert not list(node.parents)


def test_a_member_set_as_attribute_takes_the_value(kind):
    """Setting the attribute of a param among the members gives it a value, as on modules, and never hides it."""
    collection = kind(params("ab"))
    key = next(iter(collection.children))
    setattr(collection, key, 9.0)
    assert collection.children[key].value.item() == 9.0
    with pytest.raises(ck.GraphError):
        setattr(collection, key, ck.Param("other", 1.0))


def test_a_member_named_like_a_method(kind):
    """A key that is the name of a method is found by the key, and the method stays what it is."""
    node = ck.Param("to_static", 1.0, dynamic=True)
    collection = ck.NodeDict({"to_static": node}) if isinstance(kind([]), dict) else kind([node])
    assert collection["to_static"] is node
    collection.to_static()
    assert node.static


# Attributes of modules


def test_plain_containers_of_nodes_convert():
    """Lists, tuples and dicts of nodes that are set on a module become collections named after the attribute."""
    a, b = params("ab")
    module = ck.Module("m")
    module.some = [a, b]
    module.pair = (a, b)
    module.named = {"x": a, "y": b}
    assert [type(child) for child in module.children.values()] == [ck.NodeList, ck.NodeTuple, ck.NodeDict]
    assert [child.name for child in module.children.values()] == ["some", "pair", "named"]
    assert module.named.x is a


def test_other_containers_stay_plain():
    """Empty and mixed containers, dicts without text as keys, and named tuples stay what they are."""
    a = ck.Param("a", 1.0)
    pair = namedtuple("pair", "left right")(a, a)
    module = ck.Module("m")
    for value in ([], (), {}, [a, 1], (a, None), {"a": a, "b": 2}, {1: a}, pair):
        module.held = value
        assert module.held is value
    assert not module.children


def test_a_failed_conversion_leaves_no_links():
    """A list that cannot be linked under a key that is taken leaves its members without a trace of it."""
    a, b = params("ab")
    module = ck.Module("m")
    module.part = ck.Module("part")
    with pytest.raises(ck.GraphError):
        module.part = [a, b]
    assert not list(a.parents)
    assert not list(b.parents)


def test_the_collection_of_a_module_grows_in_place():
    """Adding to the list of a module with += keeps the list and what the module knows of its params in step."""
    module = ck.Module("m")
    module.parts = params("a")
    module.parts.to_dynamic()
    before = module.parts
    assert len(module.dynamic_params) == 1
    module.parts += [ck.Param("b", 1.0, dynamic=True)]
    assert module.parts is before
    assert len(module.dynamic_params) == 2


# Lists


def test_members_of_one_name_get_numbered_keys():
    """Members of one name are told apart by numbers, and the keys depend on nothing but the order."""
    blobs = ck.NodeList([ck.Module("blob") for _ in range(3)])
    assert list(blobs.children) == ["blob", "blob_2", "blob_3"]
    assert blobs["blob_2"] is blobs[1]
    assert blobs.blob_3 is blobs[2]
    del blobs[0]
    assert list(blobs.children) == ["blob", "blob_2"]


def test_a_numbered_key_never_takes_the_place_of_a_name():
    """A member that is really named blob_2 keeps apart from the numbered ones."""
    blobs = ck.NodeList([ck.Module(name) for name in ("blob_2", "blob", "blob", "blob_2")])
    assert list(blobs.children) == ["blob_2", "blob", "blob_3", "blob_2_2"]


def test_one_node_several_times():
    """A node may stand in a list several times and is linked once, until its last place is gone."""
    a, b = params("ab")
    nodes = ck.NodeList([a, a])
    nodes.append(b)
    assert list(nodes) == [a, a, b]
    assert dict(nodes.children) == {"a": a, "b": b}
    nodes.remove(a)
    assert nodes in a.parents
    nodes.remove(a)
    assert nodes not in a.parents
    assert list(nodes) == [b]


BAD_CHANGES = {
    "append": lambda nodes, bad: nodes.append(bad),
    "extend": lambda nodes, bad: nodes.extend([ck.Param("fresh", 1.0), bad]),
    "insert": lambda nodes, bad: nodes.insert(0, bad),
    "set": lambda nodes, bad: nodes.__setitem__(0, bad),
    "set slice": lambda nodes, bad: nodes.__setitem__(slice(0, 2), [bad]),
    "iadd": lambda nodes, bad: nodes.__iadd__([bad]),
}


@pytest.mark.parametrize("change", BAD_CHANGES.values(), ids=BAD_CHANGES)
@pytest.mark.parametrize("bad", ["no node", "a cycle"])
def test_a_failed_change_of_a_list_changes_nothing(change, bad):
    """A change that fails leaves the members and all links as they were."""
    top = ck.Module("top")
    top.nodes = params("aab")
    nodes = top.nodes
    before = list(nodes), links(nodes)
    with pytest.raises(ck.GraphError, match="nodes only" if bad == "no node" else "cycle"):
        change(nodes, 3 if bad == "no node" else top)
    assert (list(nodes), links(nodes)) == before
    assert nodes.structure.order == (nodes, *nodes.children.values())


def test_wrong_places_fail_as_in_plain_lists():
    """Indices and members that are not there fail as in a plain list and change nothing."""
    nodes = ck.NodeList(params("ab"))
    before = links(nodes)
    with pytest.raises(IndexError):
        nodes.pop(5)
    with pytest.raises(IndexError):
        nodes[2] = ck.Param("c", 1.0)
    with pytest.raises(ValueError, match="not in list"):
        nodes.remove(ck.Param("c", 1.0))
    with pytest.raises(ValueError, match="extended slice"):
        nodes[::2] = []
    assert links(nodes) == before


def test_unlinking_removes_the_member():
    """Unlinking by key, by node, by attribute or all at once removes the members from the list."""
    a, b, c, d = params("abca")
    nodes = ck.NodeList([a, b, a, c, d])
    nodes.unlink(["a", "a_2"])
    assert list(nodes) == [b, c]
    del nodes.b
    assert list(nodes) == [c]
    with pytest.raises(ck.NotLinkedError):
        nodes.unlink(a)
    nodes.unlink()
    assert list(nodes) == []


def test_a_list_links_members_only():
    """Linking a node to a list, rather than adding it, is an error that says so."""
    nodes = ck.NodeList(params("a"))
    with pytest.raises(ck.CollectionError, match="append"):
        nodes.link("other", ck.Param("other", 1.0))
    with pytest.raises(ck.CollectionError, match="index"):
        nodes["a"] = ck.Param("other", 1.0)


def test_slices_sums_and_products_are_lists_of_nodes():
    """Slices, sums and products of lists are linked lists of the same name."""
    a, b, c = params("abc")
    nodes = ck.NodeList([a, b, c], name="nodes")
    made = {
        "slice": (nodes[1:], [b, c]),
        "sum": (nodes.__add__([a]), [a, b, c, a]),
        "product": (2 * nodes[:1], [a, a]),
        "copy": (nodes.copy(), [a, b, c]),
    }
    for other, expected in made.values():
        assert isinstance(other, ck.NodeList)
        assert other.name == "nodes"
        assert list(other) == expected
        assert list(other.children.values()) == list(dict.fromkeys(expected))


POOL = st.integers(0, 5)
PLACE = st.integers(-4, 4)
STEPS = st.one_of(
    st.tuples(st.just("append"), POOL),
    st.tuples(st.just("extend"), st.lists(POOL, max_size=3)),
    st.tuples(st.just("insert"), PLACE, POOL),
    st.tuples(st.just("pop"), PLACE),
    st.tuples(st.just("remove"), POOL),
    st.tuples(st.just("setitem"), PLACE, POOL),
    st.tuples(st.just("delitem"), PLACE),
    st.tuples(st.just("setslice"), PLACE, PLACE, st.lists(POOL, max_size=3)),
    st.tuples(st.just("delslice"), PLACE, PLACE),
    st.tuples(st.just("imul"), st.integers(0, 2)),
    st.tuples(st.sampled_from(["reverse", "sort", "clear"])),
)


def apply(step, nodes, pool):  # noqa: C901 - one case for each kind of step
    """Do one step to a list, plain or not; what went wrong, by its kind."""
    action, *args = step
    try:
        match action:
            case "append" | "remove":
                getattr(nodes, action)(pool[args[0]])
            case "extend":
                nodes.extend(pool[i] for i in args[0])
            case "insert":
                nodes.insert(args[0], pool[args[1]])
            case "pop":
                nodes.pop(*args)
            case "setitem":
                nodes[args[0]] = pool[args[1]]
            case "delitem":
                del nodes[args[0]]
            case "setslice":
                nodes[args[0] : args[1]] = [pool[i] for i in args[2]]
            case "delslice":
                del nodes[args[0] : args[1]]
            case "imul":
                nodes *= args[0]
            case "sort":
                nodes.sort(key=lambda node: node.name)
            case _:
                getattr(nodes, action)()
    except (IndexError, ValueError) as error:
        return type(error)
    return None


@given(st.lists(STEPS, max_size=12))
def test_any_sequence_of_changes_is_that_of_a_plain_list(steps):
    """Whatever is done to a list, its members are those of a plain list, and its links follow from them."""
    pool = [ck.Module(name) for name in ("a", "a", "b", "b_2", "append", "a_2")]
    nodes, plain = ck.NodeList(), []
    for step in steps:
        assert apply(step, nodes, pool) is apply(step, plain, pool)
        assert list(nodes) == plain
        assert list(nodes.children.values()) == list(dict.fromkeys(plain))
        assert list(nodes.children) == list(ck.NodeList(plain).children)
        assert all((nodes in node.parents) == (node in plain) for node in pool)
        assert nodes.structure.order == (nodes, *nodes.children.values())


def test_a_long_list_is_built_in_linear_time():
    """Ten thousand members of one name, appended one by one, take no more than a moment."""
    nodes = ck.NodeList()
    for _ in range(10_000):
        nodes.append(ck.Module("blob"))
    assert list(nodes.children)[-1] == "blob_10000"


# Tuples


def test_a_tuple_cannot_change():
    """Every attempt to change a tuple is an error and changes nothing."""
    a, b = params("ab")
    nodes = ck.NodeTuple([a, b])
    for change in (
        lambda: nodes.link("c", ck.Param("c", 1.0)),
        lambda: nodes.unlink("a"),
        lambda: nodes.__setitem__(0, b),
        lambda: nodes.__delitem__(0),
        lambda: setattr(nodes, "c", ck.Param("c", 1.0)),
    ):
        with pytest.raises(ck.CollectionError, match="use a NodeList"):
            change()
    assert list(nodes.children.values()) == [a, b]


def test_tuples_slice_and_add():
    """Slices, sums and products of tuples are tuples of nodes."""
    a, b = params("ab")
    nodes = ck.NodeTuple((a, b), name="pair")
    assert tuple(nodes[:1]) == (a,)
    assert isinstance(nodes[:1], ck.NodeTuple)
    assert tuple(nodes.__add__((a,))) == (a, b, a)
    assert tuple(nodes * 2) == (a, b, a, b)
    assert ck.NodeTuple() is not None
    assert nodes["b"] is b


# Dicts


def test_a_dict_changes_as_a_plain_one():
    """All that changes a dict changes its links with it."""
    a, b, c = params("abc")
    nodes = ck.NodeDict({"x": a})
    nodes["y"] = b
    nodes.update({"x": c}, z=a)
    assert dict(nodes) == dict(nodes.children) == {"x": c, "y": b, "z": a}
    assert list(nodes.children) == ["x", "y", "z"]
    assert nodes.pop("x") is c
    assert nodes not in c.parents
    assert nodes.pop("x", None) is None
    assert nodes.setdefault("y", c) is b
    assert nodes.popitem() == ("z", a)
    nodes |= {"w": c}
    assert dict(nodes | {"v": a}) == {"y": b, "w": c, "v": a}
    assert dict({"v": a} | nodes) == {"v": a, "y": b, "w": c}
    del nodes["y"]
    assert dict(nodes) == dict(nodes.copy()) == dict(nodes.children) == {"w": c}
    nodes.clear()
    assert not nodes.children
    with pytest.raises(KeyError):
        nodes.popitem()


def test_one_node_under_several_keys():
    """A node may stand under several keys of a dict, and stays linked until the last one is gone."""
    a = ck.Param("a", 1.0)
    nodes = ck.NodeDict({"x": a, "y": a})
    assert len(nodes.all_params) == 1
    del nodes["x"]
    assert nodes in a.parents
    del nodes.y
    assert nodes not in a.parents
    assert not nodes


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"fine": None}, "nodes only"),
        ({3: "node"}, "must be strings"),
        ({"no name": "node"}, "identifier"),
        ("cycle", "cycle"),
    ],
)
def test_a_failed_update_changes_nothing(bad, error):
    """An update that fails leaves the dict and all links as they were."""
    top = ck.Module("top")
    top.nodes = dict(zip("xy", params("ab"), strict=True))
    before = dict(top.nodes), links(top.nodes)
    fresh = ck.Param("fresh", 1.0)
    wrong = {"z": top} if bad == "cycle" else {key: fresh if value == "node" else value for key, value in bad.items()}
    with pytest.raises(ck.CaskadeException, match=error):
        top.nodes.update({"x": fresh, **wrong})
    assert (dict(top.nodes), links(top.nodes)) == before
    assert not list(fresh.parents)


def test_a_missing_key_names_those_there_are():
    """A key that is not there is a KeyError that lists the keys."""
    nodes = ck.NodeDict(dict(zip("xy", params("ab"), strict=True)))
    for look_up in (lambda: nodes["z"], lambda: nodes.pop("z"), lambda: nodes.__delitem__("z")):
        with pytest.raises(KeyError, match="its children are x, y"):
            look_up()


def test_links_to_a_dict_are_entries():
    """Linking a node to a dict, plainly or as a plate, puts it there under the key, and never over another one."""
    a, b = params("ab")
    nodes = ck.NodeDict()
    nodes.link("x", a)
    nodes.y = b
    nodes.hierarchical_link("plate", ck.Module("member"), size=3)
    assert list(nodes) == ["x", "y", "plate"]
    nodes["z"] = ck.Param("z", 1.0)
    nodes["x"] = b
    assert nodes.plate_declarations["plate"].size == 3
    with pytest.raises(ck.GraphError, match="its member b"):
        nodes.link("x", a)
    nodes["items"] = a
    with pytest.raises(ck.GraphError, match="already has a member"):
        nodes.link("items", b)


# Calls


class Blob(ck.Module):
    def __init__(self, width):
        super().__init__("blob")
        self.width = ck.Param("width", width, dynamic=True)

    @ck.forward
    def at(self, x, width):
        return width * x


class Blobs(ck.Module):
    def __init__(self):
        super().__init__("blobs")
        self.parts = [Blob(1.0), Blob(2.0), Blob(3.0)]
        self.named = {"first": self.parts[0]}

    @ck.forward
    def at(self, x):
        total = self.named["first"].at(x)
        for part in self.parts[1:]:
            total = total + part.at(x)
        return total + self.parts[-1].at(x)

    @ck.forward
    def grow(self):
        self.parts.append(Blob(4.0))


def test_calls_reach_the_members():
    """A forward method loops over, slices and indexes collections, also when compiled, and changes no links by that."""
    blobs = Blobs()
    values = blobs.get_values()
    parents = len(blobs.parts[1]._parents)
    x = torch.tensor(10.0)
    assert blobs.at(x, values).item() == 90.0
    assert torch.compile(blobs.at, fullgraph=True, backend="eager")(x, values).item() == 90.0
    assert len(blobs.parts[1]._parents) == parents


def test_collections_do_not_change_during_a_call():
    """Adding a member to a collection of the module that is called is an error that changes nothing."""
    blobs = Blobs()
    with pytest.raises(ck.ActiveStateError, match="the members"):
        blobs.grow(blobs.get_values())
    assert len(blobs.parts) == len(blobs.parts.children) == 3
