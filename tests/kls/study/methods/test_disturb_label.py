import numpy as np
import pytest

from decathlon.batches import Batches
from kls.losses import SmoothedCE
from kls.study.methods import DisturbLabel
from kls.study.methods.disturb_label import Disturbed

from ..helpers import train, training_of


@pytest.fixture(scope="module")
def plain():
    """Forty batches of a thousand labels of four classes."""
    labels = np.arange(40_000) % 4
    return Batches(np.zeros((40_000, 1), np.float32), labels, classes=4, batch_size=1000, training=True, seed=3)


def labels_of(batches, epoch=0):
    return np.concatenate([batches.batch(epoch, index)[1] for index in range(len(batches))])


def test_a_rate_of_one_draws_all_labels_uniformly_and_zero_none(plain):
    np.testing.assert_array_equal(labels_of(Disturbed(plain, 0.0)), labels_of(plain))
    drawn = labels_of(Disturbed(plain, 1.0))
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), 1 / 4, atol=0.01)  # 4.6 standard errors
    assert np.mean(drawn == labels_of(plain)) == pytest.approx(1 / 4, abs=0.01)


def test_the_share_of_other_labels_is_that_of_the_classes(plain):
    changed = np.mean(labels_of(Disturbed(plain, 0.4)) != labels_of(plain))
    assert changed == pytest.approx(0.4 * 3 / 4, abs=0.01)


def test_draws_depend_on_seed_epoch_and_batch_alone(plain):
    def disturbed(epoch, index):
        return Disturbed(plain, 0.5).batch(epoch, index)[1] != plain.batch(epoch, index)[1]

    np.testing.assert_array_equal(disturbed(1, 2), disturbed(1, 2))
    for epoch, index in ((1, 3), (2, 2)):
        assert not np.array_equal(disturbed(1, 2), disturbed(epoch, index))


def test_the_mean_loss_is_that_of_smoothed_labels():
    logits = np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32)
    rate = 0.3
    one_hot = [float(SmoothedCE(1.0, from_logits=True)([k], logits)) for k in range(4)]
    expected = (1 - rate) * one_hot[2] + rate * np.mean(one_hot)
    smoothed = SmoothedCE(1 - rate * 3 / 4, from_logits=True)([2], logits)
    assert float(smoothed) == pytest.approx(expected, rel=1e-6)


def test_a_trial_of_it_is_trained(make_trial, stripes, store, tiny):
    record = train(make_trial(model=tiny, method=DisturbLabel(0.2), epochs=1), stripes, store)
    assert 0 <= record["accuracy_last"] <= 1


def test_the_batches_of_a_trial_are_disturbed(make_trial, stripes):
    plain, disturbed = (
        DisturbLabel(rate).batches(training_of(make_trial(), stripes)).batch(0, 0) for rate in (0.0, 1.0)
    )
    np.testing.assert_array_equal(plain[0], disturbed[0])
    assert not np.array_equal(plain[1], disturbed[1])


def test_what_cannot_be_is_refused(make_trial, stripes):
    with pytest.raises(ValueError, match=r"`rate` must be a number in \[0, 1\]. Received: rate=1.5"):
        DisturbLabel(1.5)
    with pytest.raises(ValueError, match=r"`mixing` must be None.* Received: 'cutmix'"):
        DisturbLabel(mixing="cutmix").check(make_trial(), stripes)
