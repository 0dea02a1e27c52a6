from dataclasses import replace

import keras
import numpy as np

import kls
from kls.calibration.samples import softmax

from ..helpers import compiled_model, student, train, trained_network, training_of


def test_a_student_ends_near_its_teacher_which_stays_as_it_is(parent, stripes, store):
    before = trained_network(parent, stripes, store).get_weights()
    trial = replace(student(parent), seed=1, epochs=12)
    train(trial, stripes, store, parents=[parent])
    taught, teacher = (softmax(store.logits(of, "test")[0]) for of in (trial, parent))
    assert np.abs(taught - teacher).mean() < 0.15
    assert (taught.argmax(axis=1) == teacher.argmax(axis=1)).mean() > 0.9
    for one, other in zip(before, trained_network(parent, stripes, store).get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_stored_logits_are_the_teachers_and_are_computed_once(parent, stripes, store, monkeypatch):
    training = training_of(student(parent), stripes, store, [parent, parent])
    first = training.parent_logits()
    expected = trained_network(parent, stripes, store).predict(stripes.split("train")[0], verbose=0)
    assert first.shape == (96, 2, 3)
    for teacher in range(2):
        np.testing.assert_allclose(first[:, teacher], expected, atol=1e-4)
    monkeypatch.setattr(kls, "teacher_logits", None)
    np.testing.assert_array_equal(training.parent_logits(), first)


def test_what_teachers_said_before_teaches_like_teachers_do(parent, stripes, store):
    """Where images are not varied."""
    still = replace(parent, shift=0.0, epochs=2, seed=3)
    students = [
        replace(student(still, mode="ensemble", offline=offline), parents=(parent.id,)) for offline in (True, False)
    ]
    for trial in students:
        store.finish(trial, "study", train(trial, stripes, store, parents=[parent]))
    weights = (trained_network(trial, stripes, store).get_weights() for trial in students)
    for found, expected in zip(*weights, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_networks_of_a_seed_begin_alike_whoever_their_teachers_are(parent, stripes, store):
    alone = compiled_model(replace(parent, seed=5), stripes, 6)
    keras.utils.set_random_seed(8)
    taught = compiled_model(replace(student(parent, mode="ensemble"), seed=5), stripes, 6, store, [parent, parent])
    for found, expected in zip(taught.student.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_stored_logits_that_are_damaged_are_computed_anew(parent, stripes, store):
    training = training_of(student(parent), stripes, store, [parent])
    first = np.array(training.parent_logits())
    path = store.teacher_logits_path([parent])
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x80?")
    assert np.load(path)[-1, 0, -1] == 1
    np.testing.assert_array_equal(training.parent_logits(), first)
