import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.throughput import peers


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
def test_networks_compute_what_those_of_kls_do():
    program = Path(__file__).with_name("compare_torch.py")
    command = [sys.executable, str(program), str(Path(peers.__file__).parent)]
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    assert max(json.loads(answer.splitlines()[-1]).values()) < 1e-5
