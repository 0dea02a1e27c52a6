"""The studies. Each is a program: `python -m benchmarks.decathlon`."""

import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # TensorFlow leaves oneDNN off on processors without AVX-512
