"""What the studies import, in a process of its own: Keras is imported here already."""

import subprocess
import sys

SCRIPT = """
import sys
import benchmarks.runner
print(sorted({"keras", "matplotlib", "sklearn"} & set(sys.modules)))
import matplotlib.pyplot, sklearn.metrics
print(sklearn.metrics.accuracy_score([0, 1], [0, 1]))
"""


def test_scikit_learn_and_matplotlib_are_imported_when_they_are_needed():
    found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["['keras']", "1.0"]
