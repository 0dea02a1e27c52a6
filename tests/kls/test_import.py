"""What `import kls` alone brings, in a process of its own."""

import subprocess
import sys

import numpy as np

import kls

SCRIPT = """
import importlib, pkgutil, sys
import kls
import keras

model = keras.saving.load_model(sys.argv[1])
print(type(model.loss).__name__, float(model.loss.gamma), float(keras.ops.sum(model(keras.ops.ones((1, 8, 8, 1))))))
registered = set(keras.saving.get_custom_objects())
for module in pkgutil.walk_packages(kls.__path__, "kls."):
    importlib.import_module(module.name)
print(len(registered) > 10, sorted(set(keras.saving.get_custom_objects()) - registered))
"""


def test_load_model_finds_every_class_after_it(tmp_path):
    model = kls.models.build("wrn10-1", (8, 8, 1), 4)
    model.compile("sgd", kls.SmoothedCE(0.8))
    model.save(tmp_path / "model.keras")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "model.keras")]
    loaded, rest = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    loss, gamma, total = loaded.split()
    assert (loss, float(gamma)) == ("SmoothedCE", 0.8)
    np.testing.assert_allclose(float(total), 1, atol=1e-5)
    assert rest == "True []"
