import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.throughput import peers

pytestmark = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")


@pytest.fixture(scope="module")
def found():
    program = Path(__file__).with_name("compare_torch.py")
    command = [sys.executable, str(program), str(Path(peers.__file__).parent)]
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return json.loads(answer.splitlines()[-1])


def test_networks_compute_what_those_of_kls_do(found):
    assert max(found["differences"].values()) < 1e-5


def test_weights_are_decayed_where_kls_penalises_them(found):
    assert found["decayed"]["resnet8v1"] == [[2e-4, 76720], [0.0, 1466]]  # the kernels of convolutions alone
    assert found["decayed"]["wrn10-1"] == [[5e-4, 77850]]
