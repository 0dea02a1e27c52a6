"""The same tests once more on JAX, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

pytest.importorskip("jax")
HERE = Path(__file__).parent


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="runs on JAX already")
def test_losses_targets_metrics_scores_and_callbacks_on_jax():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
    losses = (
        "Predictions::test_that_are_no_probabilities_give_nan_by_xla_and_no_other_row_does",
        "Predictions::test_of_a_head_without_softmax_do_not_train",
        "Value",
        "Labels",
        "Gradient",
        "OutlierExposure::test_gradient_is_the_finite_difference",
        "OutlierExposure::test_compiled_it_is_the_same",
        "KnowledgeDistillation::test_gradient_is_that_of_keras",
        "KnowledgeDistillation::test_compiled_it_is_the_same",
        "WeightedSoftLabels::test_gradient_leaves_the_weight_out",
        "WeightedSoftLabels::test_compiled_it_is_the_same",
        "FocalStdGradient::test_value_and_gradient_are_the_exact_ones_at_moderate_and_saturated_logits[float32]",
    )
    files = [str(HERE / f"test_losses.py::Test{name}") for name in losses]
    files += [str(HERE / f"test_{name}.py") for name in ("targets", "feeding")]
    files.append(str(HERE / "test_metrics.py::TestByHand"))
    files.append(str(HERE / "test_metrics.py::TestTraining::test_fit_and_validation_report_the_array_functions"))
    files.append(str(HERE / "test_metrics.py::TestFamiliarAccuracy"))
    files.append(str(HERE / "test_distillation.py::TestObjective::test_training_is_that_of_keras"))
    files.append(str(HERE / "test_distillation.py::TestPredictions::test_of_a_head_without_softmax_give_nan_by_xla"))
    files.append(str(HERE / "test_distillation.py::TestTeachers::test_stay_as_they_are_and_out_of_the_model"))
    files.append(
        str(HERE / "test_distillation.py::TestContrast::test_compiled_training_moves_student_embeddings_and_banks")
    )
    files.append(str(HERE / "test_uncertainty.py::TestTraining::test_a_teacher_draws_anew_for_each_batch"))
    files.append(str(HERE / "test_overfitting.py::TestWeights::test_take_effect_in_compiled_training"))
    files.append(str(HERE / "test_callbacks.py::test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one"))
    files.append(str(HERE / "ood/test_scores.py::TestODIN::test_follows_the_finite_difference_gradient"))
    files.append(str(HERE / "test_network.py::TestOneForwardPass::test_further_training_is_seen_without_another_trace"))
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *files],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-3000:]
    assert "passed" in run.stdout


def test_importing_kls_imports_no_package_that_keras_does_not():
    code = (
        "import sys, keras; before = {m.partition('.')[0] for m in sys.modules}; import kls; "
        "print({m.partition('.')[0] for m in sys.modules} - before, 'tensorflow' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "{'kls'} False"
