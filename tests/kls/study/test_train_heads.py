"""Heads side by side against a plain loop of Keras, and against heads alone, by their bits."""

import random
from dataclasses import replace

import keras
import numpy as np
import pytest

import kls
from kls.study import train_heads as module
from kls.study.methods import CrossEntropy, DisturbLabel, LabelSmoothing, OverfittingRatio
from kls.study.train_heads import OfEachSlot, Slots, groups_of, slots_of, train_heads, trains_together

from . import pretrained
from .my_methods import Penalised

SWEEP = [LabelSmoothing(gamma) for gamma in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55)]


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(module, "_last", None)


def train_all(made):
    """Trains the heads of a study group by group, and returns what came of each."""
    trainer = made.trainer
    trainer.compute_features(made.plan().trials)
    found = {}
    for group in trainer.groups(made.plan().trials):
        trainings = [trainer.training(trial) for trial in group]
        found |= zip(group, train_heads(trainings, trainer.wanted_by(group[0])), strict=True)
    return found


def left_by(made, label, seed=0):
    """Returns what a head leaves but its times, as bytes."""
    trials = {(trial.method.label, trial.seed): trial for trial in made.plan().trials}
    directory = made.store.directory(trials[label, seed])
    names = ("weights.weights.h5", "history.csv", "logits/validation.npz")
    return {name: (directory / name).read_bytes() for name in names}


def softmax_crossentropy(labels, logits, gamma):
    """Returns the mean loss by NumPy."""
    targets = np.full(logits.shape, (1 - gamma) / (logits.shape[1] - 1))
    targets[np.arange(len(labels)), labels] = gamma
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -(targets * log_p).sum(axis=1).mean()


class TestOracle:
    def train_plainly(self, training, gamma, seed, optimizer):
        """Returns the weights and the history of one head that Keras trains alone."""
        random.seed(seed)
        inputs = keras.Input((pretrained.FEATURES,))
        dropped = kls.layers.Dropout(0.25)(inputs)
        model = keras.Model(inputs, keras.layers.Dense(3)(dropped))
        loss = keras.losses.CategoricalCrossentropy(True, label_smoothing=(1 - gamma) * 3 / 2)
        model.compile(optimizer, loss, metrics=["accuracy"])
        batches, history = training.batches(), []
        x, labels = training.dataset.split("validation")
        for epoch in range(2):
            steps = []
            for step in range(3):
                features, indices = batches.batch(epoch, step)
                steps.append(model.train_on_batch(features, np.eye(3)[indices]))
            logits = np.asarray(model(np.asarray(x), training=False))
            validation = softmax_crossentropy(labels, logits, gamma), np.mean(logits.argmax(axis=1) == labels)
            history.append([*np.mean(steps, axis=0), *validation])
        return model.layers[-1].get_weights(), history

    @pytest.mark.parametrize("optimizer", ["adam", "nesterov"])
    def test_each_head_ends_as_in_a_plain_loop(self, optimizer, study_of_heads):
        made = study_of_heads(seeds=[3], optimizer=optimizer)
        train_all(made)
        for trial in made.plan().trials:
            rate = keras.optimizers.schedules.CosineDecay(0.05, 6, alpha=1e-6 / 0.05)
            plain = keras.optimizers.Adam(rate) if optimizer == "adam" else keras.optimizers.SGD(rate, 0.9, True)
            expected, history = self.train_plainly(made.trainer.training(trial), trial.method.gamma, 3, plain)
            head = made.trainer.training(trial).network()
            head.load_weights(made.store.directory(trial) / "weights.weights.h5")
            for found, value in zip(head.layers[-1].get_weights(), expected, strict=True):
                np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-5)
            columns = ("loss", "accuracy", "val_loss", "val_accuracy")
            table = np.genfromtxt(made.store.directory(trial) / "history.csv", delimiter=",", names=True)
            np.testing.assert_allclose(np.stack([table[name] for name in columns], axis=1), history, rtol=1e-5)

    def test_logits_and_metrics_are_those_of_the_head(self, study_of_heads):
        made = study_of_heads()
        for trial, record in train_all(made).items():
            head = made.trainer.training(trial).network()
            head.load_weights(made.store.directory(trial) / "weights.weights.h5")
            x, labels = made.trainer.training(trial).dataset.split("validation")
            logits, _ = made.store.logits(trial, "validation")
            np.testing.assert_allclose(logits, head(np.asarray(x), training=False), rtol=1e-5, atol=1e-5)
            assert record["accuracy_last"] == np.mean(logits.argmax(axis=1) == labels)
            assert record["parameters"] == 6 * 3 + 3

    def test_weight_decay_is_that_of_pytorch(self, study_of_heads):
        """One step of SGD from w is w - rate (gradient + decay w)."""
        options = {"optimizer": "momentum", "schedule": (), "epochs": 1, "batch_size": 48, "methods": SWEEP[:1]}
        made = [study_of_heads(pretrained.without_dropout, weight_decay=decay, **options) for decay in (0.0, 0.5)]
        ended = []
        for one in made:
            train_all(one)
            (trial,) = one.plan().trials
            head = one.trainer.training(trial).network()
            head.load_weights(one.store.directory(trial) / "weights.weights.h5")
            ended.append(head.layers[-1].get_weights())
        begun = made[0].trainer.training(trial).network().layers[-1].get_weights()
        for start, plain, decayed in zip(begun, *ended, strict=True):
            np.testing.assert_allclose(plain - decayed, 0.05 * 0.5 * start, rtol=1e-4, atol=1e-6)


class TestBits:
    def test_are_the_same_alone_and_beside_others_in_any_slot(self, study_of_heads):
        alone = study_of_heads(methods=[SWEEP[2]])
        train_all(alone)
        expected = left_by(alone, "gamma=0.9")
        for methods in (SWEEP[2:4], [Penalised(0.5), *SWEEP[5:8], SWEEP[2]], SWEEP):
            made = study_of_heads(methods=methods)
            train_all(made)
            assert left_by(made, "gamma=0.9") == expected

    def test_of_another_seed_in_one_process_are_those_alone(self, study_of_heads, monkeypatch):
        made, models = study_of_heads(methods=SWEEP[2:3], seeds=2), []
        begin = module.Stack.begin

        def noted(stack, trainings):
            models.append(stack.model)
            begin(stack, trainings)

        monkeypatch.setattr(module.Stack, "begin", noted)
        train_all(made)
        assert models[0] is models[1]
        monkeypatch.setattr(module, "_last", None)
        alone = study_of_heads(methods=SWEEP[2:3], seeds=[1])
        train_all(alone)
        assert models[2] is not models[0]
        assert left_by(made, "gamma=0.9", 1) == left_by(alone, "gamma=0.9", 1)

    def test_of_many_classes_are_the_same_beside_others(self, study_of_heads):
        data = tuple(pretrained.images(count, classes=43, seed=seed) for count, seed in ((86, 0), (43, 1)))
        made = [study_of_heads(data=data, methods=methods) for methods in (SWEEP[2:3], SWEEP[1:3])]
        for one in made:
            train_all(one)
        assert left_by(made[1], "gamma=0.9") == left_by(made[0], "gamma=0.9")


class TestFailures:
    def test_a_head_whose_loss_is_not_finite_fails_alone(self, study_of_heads, capsys):
        made = study_of_heads(methods=[Penalised(3.4e38), CrossEntropy()])
        assert made.execute() == 1
        reason = "TrainingError: loss became NaN or infinite"
        assert f"penalised beta=3.4e+38 seed=0  FAILED  {reason}" in capsys.readouterr().out
        assert list(made.results().failures.values()) == [reason]
        assert [record["method"] for record in made.results().records] == ["gamma=1"]
        alone = study_of_heads(methods=[CrossEntropy()])
        train_all(alone)
        assert left_by(alone, "gamma=1") == left_by(made, "gamma=1")


class TestGroups:
    def groups(self, made, classes=3):
        return [
            [(trial.method.label, trial.seed) for trial in group]
            for group in groups_of(made.plan().trials, {"arrays": classes})
        ]

    def test_are_of_one_seed_and_differ_in_their_losses_alone(self, study_of_heads):
        methods = [
            CrossEntropy(),
            Penalised(0.5),
            DisturbLabel(0.1),
            LabelSmoothing(0.8, epochs=3),
            LabelSmoothing(0.9),
        ]
        found = self.groups(study_of_heads(methods=methods, seeds=2))
        together = ["gamma=1", "penalised beta=0.5", "gamma=0.9"]
        assert found == [
            group
            for seed in (0, 1)
            for group in (
                [(label, seed) for label in together],
                [("disturb_label rate=0.1", seed)],
                [("gamma=0.8", seed)],
            )
        ]

    def test_are_no_larger_than_there_are_slots(self, study_of_heads):
        made = study_of_heads(methods=SWEEP)
        assert [len(group) for group in groups_of(made.plan().trials, {"arrays": 300})] == [3, 3, 3, 1]

    @pytest.mark.parametrize(
        ("classes", "slots"), [(2, 10), (43, 10), (100, 10), (101, 9), (501, 1), (1000, 1), (2000, 1)]
    )
    def test_slots(self, classes, slots):
        assert slots_of(classes) == slots

    def test_others_are_trained_one_by_one(self, study_of_heads):
        trial = study_of_heads().plan().trials[0]
        assert trains_together(trial)
        assert not any(
            trains_together(replace(trial, **changes))
            for changes in (
                {"fine_tune": "all"},
                {"fine_tune": None},
                {"compile": "lion 0123"},
                {"method": LabelSmoothing(0.9, dropout=0.1)},
                {"method": OverfittingRatio()},
            )
        )

    def test_more_heads_than_slots_are_all_trained(self, study_of_heads, monkeypatch):
        monkeypatch.setattr(module, "MOST_SLOTS", 1)
        assert [type(found) for found in train_all(study_of_heads()).values()] == [dict, dict]


class TestParts:
    def test_slots_are_last_layers_side_by_side(self):
        layers = [keras.layers.Dense(3, bias_initializer="ones") for _ in range(2)]
        x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
        expected = np.stack([layer(x) for layer in layers], axis=1)
        slots = Slots(4, 2, 3)
        slots(x)
        slots.assign(layers)
        np.testing.assert_allclose(slots(x), expected, rtol=1e-5, atol=1e-6)
        assert slots.kernel.shape == (4, 12)
        for slot, layer in enumerate(layers):
            for found, value in zip(slots.of(slot), layer.get_weights(), strict=True):
                np.testing.assert_array_equal(found, value)
        assert not np.asarray(slots.of(3)[0]).any()

    def test_metrics_are_means_over_samples_of_uneven_batches(self):
        gammas, rng = (1.0, 0.8), np.random.default_rng(0)
        logits, labels = rng.normal(size=(7, 2, 3)).astype(np.float32), np.arange(7) % 3
        metric = OfEachSlot([kls.SmoothedCE(gamma, from_logits=True) for gamma in gammas])
        for rows in (slice(0, 4), slice(4, 7)):
            metric.update_state(labels[rows], logits[rows])
        expected = {f"loss{slot}": softmax_crossentropy(labels, logits[:, slot], gammas[slot]) for slot in (0, 1)}
        expected |= {f"accuracy{slot}": np.mean(logits[:, slot].argmax(axis=1) == labels) for slot in (0, 1)}
        assert {name: float(value) for name, value in metric.result().items()} == pytest.approx(expected, rel=1e-5)
