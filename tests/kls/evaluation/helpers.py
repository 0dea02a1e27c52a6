"""What the tests of an evaluation share: data, classifiers, rows of a frame and tables of a text."""

import collections
import itertools

import keras
import numpy as np
import pandas as pd

from kls.utils.formats import NOT_PERCENT

RNG = np.random.default_rng(3)
TRAIN, X, HELD_OUT = (RNG.normal(size=(size, 6)).astype("float32") for size in (120, 91, 60))
NEAR, FAR, NOISE = (
    (scale * RNG.normal(size=(size, 6)) + shift).astype("float32")
    for size, scale, shift in ((40, 1, 1), (33, 3, 0), (20, 0.2, 0))
)
SETTINGS = {"ece": ("bins", "convention"), "mce": ("bins", "convention"), "uce": ("bins",)}


def dense(activation=None, seed=5):
    """A small classifier; equal seeds give equal weights, whatever the activation."""
    layers = [
        keras.layers.Input((6,)),
        keras.layers.Dense(8, activation="relu", name="hidden"),
        keras.layers.Dense(3, activation=activation, name="last"),
    ]
    model = keras.Sequential(layers)
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=weight.shape).astype("float32") for weight in model.get_weights()])
    return model


def identity(classes):
    """A model that returns its inputs as logits."""
    model = keras.Sequential([keras.layers.Input((classes,)), keras.layers.Dense(classes, use_bias=False)])
    model.set_weights([np.eye(classes)])
    return model


class Batches(keras.utils.PyDataset):
    """Batches of arrays that count how often each is read."""

    def __init__(self, *arrays, size=32):
        super().__init__()
        self.arrays, self.size, self.reads = arrays, size, collections.Counter()

    def __len__(self):
        return -(-len(self.arrays[0]) // self.size)

    def __getitem__(self, index):
        self.reads[index] += 1
        return tuple(array[index * self.size : (index + 1) * self.size] for array in self.arrays)


class Unreadable(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise AssertionError("the data were read")


def only(frame, **conditions):
    """The one row of a frame that meets the conditions."""
    for column, value in conditions.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1, conditions
    return frame.iloc[0]


def binned(metric, bins, convention):
    chosen = {"bins": bins, "convention": convention}
    return {name: chosen[name] for name in SETTINGS.get(metric, ())}


def tables(markdown):
    """Returns each table of a text as a list of rows, lists of cells, without the rule below the header."""
    found = []
    for is_table, lines in itertools.groupby(markdown.splitlines(), lambda line: line.startswith("|")):
        if is_table:
            rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
            assert all(set(cell) <= set(":-") for cell in rows[1])
            found.append([rows[0], *rows[2:]])
    return found


def shown(row):
    """A row as a cell of a table."""
    scale, digits = (100, 2) if row["metric"] not in NOT_PERCENT else (1, 4)
    ends = () if pd.isna(row["low"]) else (row["low"], row["high"])
    value, *ends = (f"{scale * number:.{digits}f}" for number in (row["value"], *ends))
    return f"{value} [{', '.join(ends)}]" if ends else value
