"""Plates beside each other, in the data and in long tables."""

import pyro
import pyro.distributions as dist
import torch

import caskade_pyro as ck

from .pair import Pair, data


class Person(ck.Module):
    def __init__(self):
        super().__init__()
        self.ability = ck.Param("ability", shape=())

    @ck.forward
    def own(self, ability):
        return ability


class Item(ck.Module):
    def __init__(self):
        super().__init__()
        self.difficulty = ck.Param("difficulty", shape=())
        self.weight = ck.Param("weight", shape=())

    @ck.forward
    def own(self, difficulty, weight):
        return difficulty, weight


class Exam(ck.Module):
    """Persons and items: crossed plates, priors given for each member, and a constant for each item."""

    def __init__(self, persons, items):
        super().__init__()
        person, item = Person(), Item()
        self.hierarchical_link("persons", person, size=persons)
        self.hierarchical_link("items", item, size=items)
        self.spread = ck.Param("spread", prior=dist.HalfNormal(1.0))
        person.ability.prior = ck.prior(dist.Normal, torch.linspace(-1, 1, persons), self.spread)
        item.difficulty.prior = dist.Normal(torch.linspace(0, 1, items), 1.0)
        item.weight = torch.linspace(0.5, 1.5, items)
        item.weight.to_static()

    @ck.forward
    def answers(self):
        ability = ck.vmap(self.persons.own)()
        difficulty, weight = ck.vmap(self.items.own)()
        return dist.Bernoulli(logits=weight * (ability[:, None] - difficulty))


def crossed():
    """Answers of persons to items: two plates beside each other, both in the data."""
    answers = (data(4, 3) > 0).to(torch.get_default_dtype())
    bound = ck.PyroModel(Exam(4, 3).answers, dims={"obs": ("persons", "items")}).bind(obs=answers)

    def by_hand():
        spread = pyro.sample("spread", dist.HalfNormal(1.0))
        persons, items = pyro.plate("persons", 4, dim=-2), pyro.plate("items", 3, dim=-1)
        with persons:
            ability = pyro.sample("persons.ability", dist.Normal(torch.linspace(-1, 1, 4)[:, None], spread))
        with items:
            difficulty = pyro.sample("items.difficulty", dist.Normal(torch.linspace(0, 1, 3), 1.0))
        with persons, items:
            logits = torch.linspace(0.5, 1.5, 3) * (ability - difficulty)
            pyro.sample("obs", dist.Bernoulli(logits=logits), obs=answers)

    return Pair(bound, by_hand, subsampled=("persons", "items"))


class ExamByItems(Exam):
    @ck.forward
    def by_items(self):
        ability = ck.vmap(self.persons.own)()
        difficulty, weight = ck.vmap(self.items.own)()
        return dist.Bernoulli(logits=(weight * (ability[:, None] - difficulty)).T)


def crossed_transposed():
    """The same answers with the items as rows."""
    answers = (data(3, 4) > 0).to(torch.get_default_dtype())
    bound = ck.PyroModel(ExamByItems(4, 3).by_items, dims={"obs": ("items", "persons")}).bind(obs=answers)

    def by_hand():
        spread = pyro.sample("spread", dist.HalfNormal(1.0))
        persons, items = pyro.plate("persons", 4, dim=-1), pyro.plate("items", 3, dim=-2)
        with persons:
            ability = pyro.sample("persons.ability", dist.Normal(torch.linspace(-1, 1, 4), spread))
        with items:
            difficulty = pyro.sample("items.difficulty", dist.Normal(torch.linspace(0, 1, 3)[:, None], 1.0))
        with persons, items:
            logits = torch.linspace(0.5, 1.5, 3)[:, None] * (ability - difficulty)
            pyro.sample("obs", dist.Bernoulli(logits=logits), obs=answers)

    return Pair(bound, by_hand, subsampled=("persons", "items"))


class Occasion(ck.Module):
    def __init__(self):
        super().__init__()
        self.mood = ck.Param("mood", shape=(), prior=dist.Normal(0.0, 0.5))

    @ck.forward
    def own(self, mood):
        return mood


class Ratings(ck.Module):
    def __init__(self):
        super().__init__()
        person, item = Person(), Item()
        self.hierarchical_link("persons", person, size=4)
        self.hierarchical_link("items", item, size=3)
        self.hierarchical_link("occasions", Occasion(), size=2)
        self.spread = ck.Param("spread", prior=dist.HalfNormal(1.0))
        person.ability.prior = ck.prior(dist.Normal, 0.0, scale=self.spread)
        item.difficulty.prior = dist.Normal(0.0, 1.0)
        item.weight.prior = dist.LogNormal(0.0, 0.2)

    @ck.forward
    def ratings(self):
        ability, mood = ck.vmap(self.persons.own)(), ck.vmap(self.occasions.own)()
        difficulty, weight = ck.vmap(self.items.own)()
        own = ability + mood[:, None] - difficulty[:, None, None]
        return dist.Normal(weight[:, None, None] * own, 1.0)


def three_crossed():
    """Three plates beside each other, in the data in another order than in the graph."""
    ratings = data(3, 2, 4)
    dims = ("items", "occasions", "persons")
    bound = ck.PyroModel(Ratings().ratings, dims={"obs": dims}).bind(obs=ratings)

    def by_hand():
        spread = pyro.sample("spread", dist.HalfNormal(1.0))
        items, occasions = pyro.plate("items", 3, dim=-3), pyro.plate("occasions", 2, dim=-2)
        persons = pyro.plate("persons", 4, dim=-1)
        with persons:
            ability = pyro.sample("persons.ability", dist.Normal(0.0, spread))
        with items:
            difficulty = pyro.sample("items.difficulty", dist.Normal(0.0, 1.0))
            weight = pyro.sample("items.weight", dist.LogNormal(0.0, 0.2))
        with occasions:
            mood = pyro.sample("occasions.mood", dist.Normal(0.0, 0.5))
        with items, occasions, persons:
            pyro.sample("obs", dist.Normal(weight * (ability + mood - difficulty), 1.0), obs=ratings)

    return Pair(bound, by_hand, subsampled=dims)


class Table(ck.Module):
    """Answers in a long table: each row has the numbers of its person and its item."""

    def __init__(self, persons, items):
        super().__init__()
        person, item = Person(), Item()
        self.hierarchical_link("persons", person, size=persons)
        self.hierarchical_link("items", item, size=items)
        self.spread = ck.Param("spread", prior=dist.HalfNormal(1.0))
        person.ability.prior = ck.prior(dist.Normal, 0.0, self.spread)
        item.difficulty.prior = dist.Normal(0.0, 1.0)
        item.weight.to_static(1.0)

    @ck.forward
    def answers(self, person, item):
        ability = ck.vmap(self.persons.own)()
        difficulty, weight = ck.vmap(self.items.own)()
        return dist.Bernoulli(logits=weight[item] * (ability[person] - difficulty[item]))

    @ck.forward
    def with_times(self, person, item):
        ability = ck.vmap(self.persons.own)()
        answers = self.answers(person, item)
        return {"answers": answers, "times": dist.LogNormal(-0.3 * ability[person], 1.0)}


def long_table():
    """Rows of a table that point to members of two plates by their numbers; two data sets share the plate of the rows."""
    person, item = torch.tensor([0, 0, 1, 2, 2, 3, 3, 1]), torch.tensor([0, 1, 1, 0, 2, 2, 1, 0])
    answers = torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0])
    times = data(8).exp()
    bound = ck.PyroModel(Table(4, 3).with_times, dims={"answers": ("rows",), "times": ("rows",)}).bind(
        person, item=item, obs={"answers": answers, "times": times}
    )

    def by_hand():
        spread = pyro.sample("spread", dist.HalfNormal(1.0))
        with pyro.plate("persons", 4, dim=-1):
            ability = pyro.sample("persons.ability", dist.Normal(0.0, spread))
        with pyro.plate("items", 3, dim=-1):
            difficulty = pyro.sample("items.difficulty", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", 8, dim=-1):
            pyro.sample("answers", dist.Bernoulli(logits=ability[person] - difficulty[item]), obs=answers)
            pyro.sample("times", dist.LogNormal(-0.3 * ability[person], 1.0), obs=times)

    return Pair(bound, by_hand, subsampled=("rows",))


PAIRS = {pair.__name__: pair for pair in (crossed, crossed_transposed, three_crossed, long_table)}
