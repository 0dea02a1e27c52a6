"""The trials of the study, as the paper has them."""

import keras
import pytest

import decathlon
from benchmarks.decathlon.__main__ import _parser
from benchmarks.decathlon.plan import PAPER_ROWS, SCHEDULE, _requested_rows, gamma_grid, make_plan, requested_gammas
from kls.study.plan import PlanError, scale_schedule


def plan_of(data_dir, *arguments):
    return make_plan(_parser().parse_args([*arguments, "--data-dir", str(data_dir)]))[0]


class TestGammas:
    @pytest.mark.parametrize(("classes", "last", "count"), [(2, 0.6, 5), (10, 0.2, 9), (43, 0.1, 10), (1623, 0.1, 10)])
    def test_the_grid_ends_above_one_in_k(self, classes, last, count):
        grid = gamma_grid(classes)
        assert (grid[0], grid[-1], len(grid)) == (1.0, last, count)

    def test_one_gamma_runs_beside_one(self):
        assert requested_gammas(["0.9"], 10) == [1.0, 0.9]
        assert requested_gammas(["1", "0.5", "0.9", "0.5"], 10) == [1.0, 0.9, 0.5]

    def test_sweep_is_the_grid(self):
        assert requested_gammas(["sweep"], 2) == [1.0, 0.9, 0.8, 0.7, 0.6]

    @pytest.mark.parametrize("texts", [["x"], ["0.9", "sweep"]])
    def test_what_is_no_number_is_refused(self, texts):
        with pytest.raises(PlanError, match=f"or 'sweep' alone. Received: {' '.join(texts)}"):
            requested_gammas(texts, 10)


class TestPlan:
    def test_quick_is_both_bundled_sets(self, data_dir):
        plan = plan_of(data_dir)
        assert [(t.dataset, t.model, t.method.gamma, t.seed, t.epochs, t.flip) for t in plan.trials] == [
            (name, "resnet8v1", gamma, seed, epochs, False)
            for name, epochs in (("digits", 10), ("glyphs", 20))
            for gamma in (1.0, 0.9)
            for seed in (0, 1, 2)
        ]
        assert plan.trials[-1].schedule == ((8, 1e-1), (12, 1e-2), (16, 1e-3), (18, 0.5e-3))

    def test_the_paper_has_thirteen_rows(self):
        assert len(PAPER_ROWS) == 13
        assert {row.model for row in PAPER_ROWS if row.dataset not in ("mnist", "imagenet12")} == {"resnet83v2"}
        assert [(r.model, r.epochs) for r in PAPER_ROWS if r.dataset == "imagenet12"] == [
            ("resnet83v2", 100),
            ("resnet20v1", 200),
        ]

    def test_the_papers_protocol_on_a_data_set_of_ones_own(self, data_dir):
        plan = plan_of(data_dir, "--preset", "paper", "--datasets", "stripes", "--gamma", "sweep", "--batch-size", "64")
        assert [t.method.gamma for t in plan.trials if t.seed == 0] == gamma_grid(3)
        trial = plan.trials[0]
        assert (trial.model, trial.epochs, trial.batch_size) == ("resnet83v2", 200, 64)
        assert trial.schedule == SCHEDULE
        assert (trial.optimizer, trial.learning_rate, trial.shift, trial.flip) == ("adam", 1e-3, 0.1, True)
        assert trial.normalisation == "mean"

    def test_imagenet_a_stops_within_the_schedule(self):
        row = next(row for row in PAPER_ROWS if row.dataset == "imagenet12")
        assert scale_schedule(SCHEDULE, row.epochs, row.schedule_epochs) == SCHEDULE
        assert scale_schedule(SCHEDULE, 50, row.schedule_epochs)[0] == (40, 1e-1)

    def test_flags_reach_the_trials(self, data_dir):
        plan = plan_of(
            data_dir,
            *("--datasets", "stripes", "--gamma", "0.8", "--epochs", "10", "--seeds", "2", "--batch-size", "32"),
            *("--model", "wrn40-2", "--precision", "mixed_bfloat16"),
        )
        assert [(t.method.gamma, t.seed) for t in plan.trials] == [(1.0, 0), (1.0, 1), (0.8, 0), (0.8, 1)]
        assert {(t.epochs, t.batch_size, t.model, t.precision) for t in plan.trials} == {
            (10, 32, "wrn40-2", "mixed_bfloat16")
        }

    def test_one_model_for_all_trains_imagenet_once(self):
        rows = _requested_rows(_parser().parse_args(["--preset", "paper", "--model", "resnet20v1"]))
        assert [row.epochs for row in rows if row.dataset == "imagenet12"] == [200]
        assert len(rows) == 12

    def test_another_backend_makes_another_trial(self, data_dir, monkeypatch):
        here = plan_of(data_dir, "--datasets", "stripes", "--batch-size", "16")
        monkeypatch.setattr(keras.backend, "backend", lambda: "other")
        there = plan_of(data_dir, "--datasets", "stripes", "--batch-size", "16")
        assert not {t.id for t in here.trials} & {t.id for t in there.trials}

    def test_imagenet_is_scaled_only(self):
        assert [name for name, entry in decathlon.CATALOG.items() if not entry.subtract_mean] == [
            "imagenet12",
            "imagenet_resized",
            "tiny_imagenet",
        ]
