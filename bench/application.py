"""An application with about 150 MB of imports, as plain Python objects: a stand-in for a real one.

Nearly all of it is what modules leave behind after their import: functions with their code, classes, dicts,
tuples, lists and strings, each of them an object of its own that the collector and every reference count
could write to. Memory that no reference count can touch, as of a numpy array, is not in it: that would be
shared all too easily.
"""

from __future__ import annotations

from typing import Any

_SOURCE = """
class Model{n}:
    '''Rows of the table number {n}.'''
    table = 'table_{n}'
    columns = {{'id': 'integer', 'name_{n}': 'text', 'created_{n}': 'timestamp', 'total_{n}': 'numeric'}}
    def __init__(self, id, name, total):
        self.id, self.name, self.total = id, name, total
    def save(self, database):
        return database.execute('insert into table_{n} values (%s, %s, %s)', (self.id, self.name, self.total))
    def label(self, locale='en'):
        return f'{{locale}}: {{self.name}} ({{self.id}}) of table_{n}'
"""
MODELS, CATALOGUE, TEXTS = 4000, 130_000, 250_000

_names: dict[str, Any] = {}
for _n in range(MODELS):
    exec(compile(_SOURCE.format(n=_n), f"model_{_n}", "exec"), _names)
catalogue = {
    f"article-{n}": {
        "id": n + 1000,
        "name": f"article number {n}",
        "price": n / 7,
        "tags": [f"tag-{n}", f"group-{n % 997}"],
    }
    for n in range(CATALOGUE)
}
texts = tuple(f"message number {n} of the translations" for n in range(TEXTS))
_called = 0


def handle(message: Any) -> None:
    """Use the same parts of the application for every message, as most handlers do."""
    global _called
    _called += 1
    _look_up(_called % 100)


def wander(message: Any) -> None:
    """Use another part of the application for every message: reference counts are written all over it."""
    global _called
    _called += 1
    _look_up(_called * 7919)


def _look_up(number: int) -> None:
    article = catalogue[f"article-{number % CATALOGUE}"]
    model = _names[f"Model{number % MODELS}"](article["id"], article["name"], article["price"])
    model.label()
