"""The corrections table, of hand-made logits: against scikit-learn, SciPy and NumPy."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special
from sklearn.metrics import roc_auc_score

from benchmarks.ood.corrections import (
    AS_TRAINED,
    CORRECTIONS,
    MEAN,
    NORMALISED,
    TEMPERATURE,
    Detector,
    corrections_of,
    corrections_tables,
    measure_corrections,
)
from benchmarks.ood.tables import Networks

OF_LOGITS = {
    "msp": lambda z: special.softmax(z, axis=1).max(axis=1),
    "max_logit": lambda z: z.max(axis=1),
    "energy": lambda z: special.logsumexp(z, axis=1),
    "entropy": lambda z: -special.entr(special.softmax(z, axis=1)).sum(axis=1),
}
CLASSES = 4


def id_logits(n=101, strength=3.0, seed=0):
    """Returns float32 logits of samples of which most are classified right, some surely, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(CLASSES, size=n)
    logits = rng.normal(size=(n, CLASSES)) + strength * np.eye(CLASSES)[labels] * rng.random((n, 1))
    logits *= 2  # too sure of itself
    return logits.astype(np.float32), labels


def ood_logits(n=60, seed=1, scale=1.0):
    return np.random.default_rng(seed).normal(size=(n, CLASSES), scale=scale).astype(np.float32)


def arrays(logits, labels=None, **scores):
    return {"logits": logits, "labels": np.full(len(logits), -1) if labels is None else labels, **scores}


@pytest.fixture
def detector():
    logits, labels = id_logits()
    return Detector(arrays(logits, labels), {"near": arrays(ood_logits()), "far": arrays(ood_logits(40, 2))})


def once(detector, name="near"):
    """Returns weights of one for every sample: shapes (1, N) and (1, M)."""
    return np.ones((1, len(detector.id_outputs["labels"]))), np.ones((1, len(detector.ood_outputs[name]["labels"])))


def theirs(id_scores, ood_scores):
    return roc_auc_score(np.r_[np.ones(len(id_scores)), np.zeros(len(ood_scores))], np.r_[id_scores, ood_scores])


def normalised(logits):
    centred = logits.astype(float) - logits.astype(float).mean(axis=1)[:, None]
    return centred / np.sqrt((centred**2).sum(axis=1))[:, None]


def temperature_of(logits, labels):
    """Returns the temperature of the least negative log-likelihood, by SciPy."""

    def loss(log_temperature):
        log_probabilities = special.log_softmax(logits.astype(float) / np.exp(log_temperature), axis=1)
        return -log_probabilities[np.arange(len(labels)), labels].mean()

    return np.exp(optimize.minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-12}).x)


def halves(n):
    order = np.random.default_rng(0).permutation(n)
    return order[: n // 2], order[n // 2 :]


def parts_of(correction, logits, labels):
    """Returns pairs of rows of the ID samples, and what is done to the logits by which these are judged."""
    if correction != TEMPERATURE:
        return [(np.arange(len(logits)), normalised if correction == NORMALISED else np.float64)]
    parts = []
    for seen, judged in (halves(len(logits)), halves(len(logits))[::-1]):
        temperature = temperature_of(logits[seen], labels[seen])
        assert temperature > 1.5
        parts.append((judged, lambda z, temperature=temperature: z.astype(float) / temperature))
    return parts


def expected_auroc(score, parts, id_logits, ood_logits, times=None, ood_times=1):
    """Returns the mean over the parts by scikit-learn, of samples that are there so many times."""
    times = np.ones(len(id_logits), int) if times is None else times
    aurocs, shares = [], []
    for rows, change in parts:
        known = np.repeat(score(change(id_logits[rows])), times[rows])
        aurocs.append(theirs(known, np.repeat(score(change(ood_logits)), ood_times)))
        shares.append(len(known))
    return np.average(aurocs, weights=shares)


class TestDetector:
    @pytest.mark.parametrize("correction", CORRECTIONS)
    @pytest.mark.parametrize("score", OF_LOGITS)
    @pytest.mark.parametrize("name", ["near", "far"])
    def test_it_is_the_auroc_of_the_score_of_corrected_logits(self, detector, score, name, correction):
        logits, labels = detector.id_outputs["logits"], detector.id_outputs["labels"]
        parts, other = parts_of(correction, logits, labels), detector.ood_outputs[name]["logits"]
        found = detector.auroc(score, correction, name, once(detector, name))
        assert found == pytest.approx([expected_auroc(OF_LOGITS[score], parts, logits, other)], abs=1e-9)

    def test_temperature_leaves_the_maximum_logit_alone(self, detector):
        weights = [np.random.default_rng(3).random((5, n)) for n in (101, 60)]
        expected = detector.auroc("max_logit", AS_TRAINED, "near", weights)
        np.testing.assert_allclose(detector.auroc("max_logit", TEMPERATURE, "near", weights), expected, atol=1e-12)

    @pytest.mark.parametrize("correction", CORRECTIONS)
    def test_a_weight_is_how_often_a_sample_is_there(self, detector, correction):
        rng = np.random.default_rng(4)
        times = [rng.integers(0, 4, (3, n)) for n in (101, 60)]
        found = detector.auroc("msp", correction, "near", [part.astype(float) for part in times])
        logits, labels = detector.id_outputs["logits"], detector.id_outputs["labels"]
        parts, other = parts_of(correction, logits, labels), detector.ood_outputs["near"]["logits"]
        expected = [expected_auroc(OF_LOGITS["msp"], parts, logits, other, *row) for row in zip(*times, strict=True)]
        assert found == pytest.approx(expected, abs=1e-9)

    def test_stored_scores_are_taken_as_they_are(self):
        logits, labels = id_logits()
        rng = np.random.default_rng(5)
        id_scores, ood_scores = rng.normal(size=101) + 1, rng.normal(size=60)
        detector = Detector(arrays(logits, labels, knn=id_scores), {"near": arrays(ood_logits(), knn=ood_scores)})
        found = detector.auroc("knn", AS_TRAINED, "near", once(detector))
        assert found[0] == pytest.approx(theirs(id_scores, ood_scores), abs=1e-12)

    @pytest.mark.parametrize("correction", CORRECTIONS)
    def test_odin_is_of_its_own_logits_at_a_thousandfold_temperature(self, correction):
        logits, labels = id_logits()
        moved, other = id_logits(seed=8)[0], ood_logits(seed=9)
        detector = Detector(arrays(logits, labels, odin=moved), {"near": arrays(ood_logits(), odin=other)})
        found = detector.auroc("odin", correction, "near", once(detector))

        def odin(z):
            return special.softmax(z / 1000, axis=1).max(axis=1)

        parts = parts_of(correction, logits, labels)  # temperatures are of the logits of images as they are
        assert found == pytest.approx([expected_auroc(odin, parts, moved, other)], abs=1e-9)


@pytest.mark.parametrize(
    ("score", "corrections"),
    [
        *((score, CORRECTIONS) for score in ("msp", "max_logit", "energy", "entropy", "gen", "odin")),
        *((score, (AS_TRAINED,)) for score in ("knn", "mahalanobis", "vim", "react", "ash", "kl_matching")),
    ],
)
def test_scores_of_features_have_no_correction(score, corrections):
    assert corrections_of(score) == corrections


@pytest.fixture
def network(store, make_trial):
    """Returns a function that stores a network's logits and returns its record."""

    def make(
        gamma=1.0, seed=0, strength=3.0, noise=0, sets=("near", "far"), scores=None, loss="label_smoothing", **changes
    ):
        trial = make_trial(gamma=gamma, seed=seed, **changes)
        store.begin(trial)
        logits, labels = id_logits(strength=strength, seed=noise)
        kept = scores or {}

        def of(name, count):
            return {s: np.random.default_rng([noise, count]).normal(size=count) for s in kept if name in kept[s]}

        store.write_outputs(trial, "test", logits, labels, scores=of("test", 101))
        for number, name in enumerate(sets):
            others = ood_logits(60 + 10 * number, 10 + number + 100 * noise)
            store.write_outputs(trial, name, others, np.full(len(others), -1), scores=of(name, len(others)))
        return {
            **{"trial": trial.id, "dataset": trial.dataset, "model": trial.model, "loss": loss},
            **{"gamma": gamma, "seed": seed, "evaluation": "test", "ood": dict.fromkeys(sets, "0")},
            "scores": {name: sorted(names) for name, names in kept.items()},
        }

    return make


def sides_of(store, record, name, score="msp"):
    logits = (
        np.load(store.out / "trials" / record["trial"] / "logits" / f"{one}.npz")["logits"] for one in ("test", name)
    )
    return [OF_LOGITS[score](part.astype(float)) for part in logits]


def measured(records, store, scores, ood_sets=None, **options):
    """Measures records with all OOD sets that any of them has seen, or with those given."""
    frame = records.assign(classes=CLASSES).assign(**{f"auroc_{name}": 0.5 for seen in records["ood"] for name in seen})
    networks = {
        name: Networks(group, [], ood_sets or sorted({name for seen in group["ood"] for name in seen}))
        for name, group in frame.groupby("dataset", sort=False)
    }
    return measure_corrections(networks, store, scores, **options)


def row_of(frame, **place):
    for name, value in place.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


class TestMeasureCorrections:
    def test_one_row_per_cell_and_scores_of_features_once(self, network, store):
        kept = {"knn": ("test", "near", "far")}
        records = pd.DataFrame([network(gamma, scores=kept) for gamma in (1.0, 0.9, 0.5)])
        frame = measured(records, store, ["msp", "knn"], resamples=5)
        assert len(frame) == 3 * 3 * (len(CORRECTIONS) + 1)
        place = ["dataset", "model", "gamma", "score", "correction", "ood"]
        assert set(frame.columns) == {*place, "n", "auroc", "std", "pairs", "difference", "low", "high"}
        assert frame[frame["score"] == "knn"]["correction"].unique().tolist() == [AS_TRAINED]
        assert frame["ood"].unique().tolist() == [MEAN, "far", "near"]
        assert frame["gamma"].unique().tolist() == [1.0, 0.9, 0.5]

    def test_seeds_are_averaged_and_differences_are_of_the_same_seed(self, network, store):
        places = [(1.0, 0), (1.0, 1), (0.8, 0), (0.8, 1)]
        members = {(gamma, seed): network(gamma, seed, 4 * gamma, noise=seed) for gamma, seed in places}
        frame = measured(pd.DataFrame(members.values()), store, ["msp", "energy"], resamples=50)
        for score in ("msp", "energy"):
            values = {key: theirs(*sides_of(store, one, "near", score)) for key, one in members.items()}
            for gamma in (1.0, 0.8):
                row = row_of(frame, score=score, correction=AS_TRAINED, ood="near", gamma=gamma)
                of_gamma = [values[gamma, seed] for seed in (0, 1)]
                assert row["n"] == 2
                assert row["auroc"] == pytest.approx(np.mean(of_gamma), abs=1e-12)
                assert row["std"] == pytest.approx(np.std(of_gamma, ddof=1), abs=1e-12)
            differences = [values[0.8, seed] - values[1.0, seed] for seed in (0, 1)]
            assert row["difference"] == pytest.approx(np.mean(differences), abs=1e-12)

    def test_a_seed_without_a_baseline_is_in_no_difference(self, network, store):
        members = [network(1.0, 0), network(0.8, 0, 2.0), network(0.8, 1, 1.0, noise=1)]
        frame = measured(pd.DataFrame(members), store, ["msp"], resamples=5)
        row = row_of(frame, correction=AS_TRAINED, ood="far", gamma=0.8)
        values = [theirs(*sides_of(store, one, "far")) for one in members]
        assert (row["n"], row["pairs"]) == (2, 1)
        assert row["auroc"] == pytest.approx(np.mean(values[1:]), abs=1e-12)
        assert row["difference"] == pytest.approx(values[1] - values[0], abs=1e-12)

    @pytest.mark.parametrize("correction", CORRECTIONS)
    def test_the_mean_is_that_over_sets(self, network, store, correction):
        records = pd.DataFrame([network(1.0), network(0.7, strength=1.0)])
        frame = measured(records, store, ["msp"], resamples=5)
        for gamma, columns in ((1.0, ["auroc"]), (0.7, ["auroc", "difference"])):
            rows = {name: row_of(frame, correction=correction, ood=name, gamma=gamma) for name in (MEAN, "near", "far")}
            for column in columns:
                expected = (rows["near"][column] + rows["far"][column]) / 2
                assert rows[MEAN][column] == pytest.approx(expected, abs=1e-12)

    def test_intervals_hold_the_difference_and_the_baseline_has_none(self, network, store):
        records = pd.DataFrame([network(1.0), network(0.9, strength=2.9, noise=3), network(0.7, strength=1.0)])
        frame = measured(records, store, ["msp", "max_logit"], resamples=100)
        baseline = frame[frame["gamma"] == 1.0]
        assert baseline[["difference", "low", "high"]].isna().all(axis=None)
        others = frame[frame["gamma"] < 1.0]
        assert ((others["low"] <= others["difference"]) & (others["difference"] <= others["high"])).all()
        assert (others["low"] < others["high"]).all()

    def test_a_clearly_worse_network_is_told_apart(self, network, store):
        records = pd.DataFrame([network(1.0, strength=6.0), network(0.5, strength=0.5)])
        frame = measured(records, store, ["energy"], resamples=200)
        worse = frame[frame["gamma"] == 0.5]
        assert (worse["high"] < 0).all()
        assert (worse["difference"] < -0.1).all()

    def test_an_interval_is_as_wide_as_by_paired_resamples(self, network, store):
        members = [network(1.0, strength=3.0), network(0.8, strength=2.0)]
        frame = measured(pd.DataFrame(members), store, ["msp"], resamples=400)
        row = row_of(frame, correction=AS_TRAINED, ood="near", gamma=0.8)
        (id_scores, ood_scores), (other_id, other_ood) = (sides_of(store, one, "near") for one in members)
        rng = np.random.default_rng(7)
        drawn = []
        for _ in range(400):
            rows, others = rng.integers(0, 101, 101), rng.integers(0, 60, 60)
            drawn.append(theirs(other_id[rows], other_ood[others]) - theirs(id_scores[rows], ood_scores[others]))
        low, high = np.percentile(drawn, [2.5, 97.5])
        assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.25 * (high - low))

    def test_a_second_call_draws_the_same_resamples(self, network, store):
        records = pd.DataFrame([network(1.0), network(0.5, strength=1.0)])
        first, second = (measured(records, store, ["msp"], resamples=20) for _ in range(2))
        pd.testing.assert_frame_equal(first, second)

    def test_exposed_networks_and_students_are_left_out(self, network, store):
        sweep = [network(1.0), network(0.5, strength=1.0)]
        others = [network(1.0, loss=loss, strength=9, batch_size=8) for loss in ("outlier_exposure", "distillation")]
        expected = measured(pd.DataFrame(sweep), store, ["msp"], resamples=5)
        found = measured(pd.DataFrame([*sweep, *others]), store, ["msp"], resamples=5)
        pd.testing.assert_frame_equal(found, expected)

    def test_sets_that_not_all_networks_have_seen_are_left_out(self, network, store):
        records = pd.DataFrame([network(1.0, sets=("near", "far")), network(0.5, sets=("near",))])
        frame = measured(records, store, ["msp"], resamples=5)
        assert frame["ood"].unique().tolist() == [MEAN, "near"]

    def test_sets_that_were_not_asked_for_are_left_out(self, network, store):
        records = pd.DataFrame([network(1.0), network(0.5)])
        frame = measured(records, store, ["msp"], ood_sets=["far"], resamples=5)
        assert frame["ood"].unique().tolist() == [MEAN, "far"]

    def test_a_resample_of_one_half_is_judged_by_that_half(self, detector):
        weights = once(detector)[0], once(detector)[1]
        rows = detector._temperatures[0][0]
        lopsided = np.zeros_like(weights[0])
        lopsided[:, rows] = 1
        found = detector.auroc("energy", TEMPERATURE, "near", (lopsided, weights[1]))
        (_, id_scores, ood_scores), _ = detector._scores("energy", TEMPERATURE, "near")
        assert found == pytest.approx(theirs(id_scores, ood_scores), abs=1e-12)

    def test_without_ood_sets_there_is_nothing(self, network, store):
        assert measured(pd.DataFrame([network(sets=())]), store, ["msp"]).empty

    def test_data_sets_are_measured_each_on_its_own(self, network, store):
        records = [
            network(gamma, dataset=dataset, strength=strength)
            for dataset, strength in (("stripes", 3.0), ("dots", 1.0))
            for gamma in (1.0, 0.5)
        ]
        together = measured(pd.DataFrame(records), store, ["msp"], resamples=5)
        apart = [measured(pd.DataFrame(part), store, ["msp"], resamples=5) for part in (records[:2], records[2:])]
        pd.testing.assert_frame_equal(together, pd.concat(apart, ignore_index=True))

    def test_sets_seen_before_a_score_was_asked_for_are_left_out(self, network, store):
        """An earlier run against `far` without the score, a later one against `near` with it."""
        kept = {"knn": ("near", "test")}
        records = pd.DataFrame([network(gamma, scores=kept) for gamma in (1.0, 0.5)])
        frame = measured(records, store, ["msp", "knn"], resamples=5)
        assert frame["ood"].unique().tolist() == [MEAN, "near"]
        assert frame["score"].unique().tolist() == ["msp", "knn"]

    @pytest.mark.parametrize("score", ["knn", "odin"])
    def test_a_score_that_not_all_networks_have_stored_is_left_out(self, network, store, score):
        records = pd.DataFrame([network(1.0, scores={score: ("near", "far", "test")}), network(0.5)])
        frame = measured(records, store, ["msp", score], resamples=5)
        assert frame["score"].unique().tolist() == ["msp"]
        assert frame["ood"].unique().tolist() == [MEAN, "far", "near"]


class TestTables:
    @pytest.fixture
    def frame(self, network, store):
        kept = {"knn": ("test", "near", "far")}
        members = [
            network(gamma, seed, strength=3 * gamma, noise=seed, scores=kept) for gamma in (1.0, 0.7) for seed in (0, 1)
        ]
        return measured(pd.DataFrame(members), store, ["msp", "knn"], resamples=20)

    def test_one_of_the_mean_and_one_per_set(self, frame):
        tables = corrections_tables(frame, {"stripes": 3})
        assert [table.name for table, _ in tables] == ["corrections", "corrections_far", "corrections_near"]
        assert [numbers["ood"].unique().tolist() for _, numbers in tables] == [[MEAN], ["far"], ["near"]]
        assert "near" in tables[2][0].caption

    def test_cells_are_what_the_frame_says(self, frame):
        (table, _), *_ = corrections_tables(frame, {"stripes": 3})
        assert table.header == (
            *("dataset", "model", "score", "α", "n"),
            *("as trained", "difference", "temperature", "difference", "normalised", "difference"),
        )
        # 0.7 of 3 classes: alpha = 0.3 * 3 / 2
        assert [row[:5] for row in table.rows] == [
            ("stripes", "resnet8v1", score, alpha, "2") for score in ("msp", "knn") for alpha in ("0", "0.45")
        ]
        for row in table.rows:
            for place, correction in enumerate(CORRECTIONS):
                cells = row[5 + 2 * place : 7 + 2 * place]
                if row[2] == "knn" and correction != AS_TRAINED:
                    assert cells == ("–", "–")
                    continue
                gamma = 1.0 if row[3] == "0" else 0.7
                numbers = 100 * row_of(frame, ood=MEAN, score=row[2], correction=correction, gamma=gamma)[
                    ["auroc", "std", "difference", "low", "high"]
                ].astype(float)
                assert cells[0] == f"{numbers['auroc']:.2f} ± {numbers['std']:.2f}"
                if gamma == 1.0:
                    assert cells[1] == "–"
                else:
                    assert cells[1] == f"{numbers['difference']:+.2f} [{numbers['low']:+.2f}, {numbers['high']:+.2f}]"

    def test_one_network_has_neither_differences_nor_a_deviation(self, network, store):
        frame = measured(pd.DataFrame([network(1.0)]), store, ["msp"], resamples=5)
        (table, _), *_ = corrections_tables(frame, {"stripes": 3})
        (row,) = table.rows
        assert row[:5] == ("stripes", "resnet8v1", "msp", "0", "1")
        assert "±" not in "".join(row)
        assert row[6::2] == ("–", "–", "–")
        assert "–" not in row[5::2]
