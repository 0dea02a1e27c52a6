"""The same tests once more on JAX, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

pytest.importorskip("jax")
HERE = Path(__file__).parent
ON_JAX = {
    "losses/test_base.py::Test": (
        "Predictions::test_that_are_no_probabilities_give_nan_by_xla_for_their_row",
        "Predictions::test_of_a_head_without_softmax_do_not_train",
        "Predictions::test_compiled_give_the_same",
        "Predictions::test_of_huge_logits_have_a_finite_loss_and_gradient",
        "Labels::test_outside_the_classes_give_nan_when_compiled",
    ),
    "losses/test_smoothed_ce.py::Test": ("Value", "Gradient"),
    "losses/test_outlier_exposure.py::Test": ("OutlierExposure::test_gradient_is_that_of_the_two_means",),
    "losses/test_knowledge_distillation.py::Test": ("KnowledgeDistillation::test_gradient_is_that_of_keras",),
    "losses/test_weighted_soft_labels.py::Test": ("WeightedSoftLabels::test_gradient_leaves_the_weight_out",),
    "losses/test_focal_std.py::Test": (
        "Gradient::test_value_and_gradient_are_exact_also_at_saturated_logits[float32]",
    ),
    "losses/test_teachers.py": ("",),
    "test_targets.py": ("",),
    "test_metrics_in_models.py::Test": ("Training::test_fit_and_validation_report_the_array_functions",),
    "test_id_accuracy.py::test_": ("fit_with_outlier_exposure",),
    "callbacks/test_full_state.py::test_": ("a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one",),
    "analysis/test_overfitting.py::Test": ("Weights::test_take_effect_in_compiled_training",),
    "analysis/test_uncertainty.py::Test": ("Training::test_a_teacher_draws_anew_for_each_batch",),
    "distillation/test_distiller_one_output.py::Test": (
        "OneOutput::test_training_moves_what_is_saved[sigmoid-softmax-False]",
    ),
    "distillation/test_distiller.py::Test": (
        "Objective::test_training_is_that_of_keras",
        "Predictions::test_of_a_head_without_softmax_give_nan_by_xla",
        "Teachers::test_stay_as_they_are_and_out_of_the_model",
        "Contrast::test_compiled_training_moves_student_embeddings_and_banks",
    ),
    "guarding/test_heads.py::test_": ("outputs_are_those_of_all_classes_also_when_loaded[pooling-knn]",),
    "guarding/test_guard.py::Test": (
        "Models::test_a_subclassed_model_by_scores_of_its_outputs",
        "Outputs::test_scores_are_those_of_the_library[knn]",
    ),
    "ood/scores/test_images.py::Test": ("ODIN::test_follows_the_finite_difference_gradient",),
    "study/test_fine_tuning.py::Test": (
        "Training::test_it_begins_with_exactly_the_trained_head",
        "Results::test_a_model_gives_the_stored_logits_and_can_be_saved",
    ),
    "study/test_train_heads.py::Test": ("Oracle::test_each_head_ends_as_in_a_plain_loop[adam]",),
    "utils/test_data.py": ("",),
    "utils/test_last_layer.py::Test": (
        "Heads::test_logits_and_features_are_those_of_numpy[pooling, softmax]",
        "Heads::test_logits_and_features_are_those_of_numpy[sigmoid]",
    ),
    "utils/test_feature_extractor.py::Test": ("OneForwardPass::test_further_training_is_seen_without_another_trace",),
}


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="runs on JAX already")
def test_losses_targets_metrics_scores_and_callbacks_on_jax():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiling takes most of the time
    nodes = [str(HERE / f"{file}{node}") for file, tests in ON_JAX.items() for node in tests]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *nodes],
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
