import numpy as np

from kls.calibration.samples import softmax

from ..helpers import exposed, train, trained_network


def test_fine_tuning_goes_on_from_the_weights_of_its_parent(parent, stripes, store):
    still = exposed(parent, learning_rate=1e-5, epochs=1)
    store.finish(still, "study", train(still, stripes, store, parents=[parent], others=[stripes]))
    before, after = (trained_network(trial, stripes, store).get_weights() for trial in (parent, still))
    np.testing.assert_allclose(after[1], before[1], atol=1e-4)
    assert not np.array_equal(after[1], before[1])


def test_exposure_flattens_what_the_network_makes_of_outliers(parent, stripes, store):
    """The outliers are the ID images themselves, so that only their labels pull towards the uniform."""
    tuned = exposed(parent, learning_rate=0.02, epochs=8, weight=5.0)
    record = train(tuned, stripes, store, parents=[parent], others=[stripes])
    confidence = [softmax(store.logits(trial, "test")[0]).max(axis=1).mean() for trial in (parent, tuned)]
    assert confidence[0] > 0.8
    assert confidence[1] < 0.6
    assert record["train_images"] == 96
