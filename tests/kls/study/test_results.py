import numpy as np

import decathlon
import kls
from kls.study.methods import CrossEntropy, Distillation

from . import my_models


def test_a_method_means_the_asked_trial_not_a_teacher(data_dir, tmp_path):
    train, test = (decathlon.open("stripes", data_dir=data_dir).split(split) for split in ("train", "test"))
    methods = [Distillation(models="resnet8v1"), CrossEntropy()]
    options = {"epochs": 1, "batch_size": 16, "out": tmp_path / "out"}
    results = kls.Study(my_models.with_rescaling, (train, test), methods, **options).run()
    assert [(record["model"], record["method"]) for record in results.records].count(("resnet8v1", "gamma=1")) == 1
    model = results.model(CrossEntropy())
    assert model.count_params() == 8 * 8 * 3 + 3
    logits, _ = results.logits(CrossEntropy())
    np.testing.assert_allclose(model.predict(np.asarray(test[0]), verbose=0), logits, atol=1e-4)
