"""What is drawn of which network: outputs and pictures written by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.mnist_zero import figures
from benchmarks.mnist_zero.figures import draw_figures
from kls.ood import Threshold
from kls.study.methods import CrossEntropy, Denoising
from kls.study.store import RunStore
from kls.study.trial import Trial

NAMES = ("restored", "proxy_ood", "error_by_class", "largest_errors", "roc_validation", "roc_test")
# Maximum softmax of each image, the labels of the ID images, and their errors.
VALIDATION, PROXIES, ID, OOD = (0.9, 0.8), (0.6, 0.95), (0.95, 0.85, 0.65, 0.5), (0.9, 0.7, 0.6)
LABELS = (0, 2, 1, 0)  # all are taken for class 0
ERRORS = {"id_test": (0.01, 0.05, 0.03, 0.02), "held_out": (0.4, 0.2, 0.3)}
THRESHOLD = 0.8


def logits_of(confidences):
    """Returns logits of three classes whose largest softmax, of class 0, is as given."""
    return np.log([(c, (1 - c) * 0.6, (1 - c) * 0.4) for c in confidences])


class Study:
    """Examined networks on datasets of four classes, of which one is held out: their records and their store."""

    def __init__(self, store):
        self.store = store
        self.records = []
        self.datasets = {}

    def add(self, dataset="mine-without-1", method="std-1", seed=0, ood_errors=ERRORS["held_out"]):
        index = int(dataset[-1])
        self.datasets[dataset] = SimpleNamespace(class_names=[name for i, name in enumerate("abcd") if i != index])
        decoder = method != "classifier"
        weight = float(method[4:]) if method.startswith("std") else 0.0
        focal = float(method.startswith("std"))
        denoising = Denoising(focal=focal, std_weight=weight, title=method)
        trained_by = denoising if decoder else CrossEntropy(title=method)
        trial = Trial(dataset, "8", "0123", "denoising_classifier", trained_by, 7, "cosine", seed=seed)
        self.store.begin(trial)
        self.records.append(
            {
                **{"trial": trial.id, "dataset": dataset, "method": method, "seed": seed},
                **{"loss": trained_by.name, "recipe": {"method": {"std_weight": weight}}},
            }
        )
        sets = {"id_validation": VALIDATION, "proxy_ood": PROXIES, "id_test": ID, "held_out": OOD}
        errors = {**ERRORS, "held_out": ood_errors}
        for name, confidences in sets.items():
            labels = np.array(LABELS) if name == "id_test" else np.full(len(confidences), -1)
            scores = {"denoising": -np.array(errors.get(name, (0.1, 0.1)))} if decoder else {}
            self.store.write_outputs(trial, name, logits_of(confidences), labels, scores=scores)
        if decoder:
            self.store.write_arrays(trial, "pictures", pictures())
            threshold = Threshold("msp").fit(logits_of([THRESHOLD]), tpr=1.0)
            threshold.save(self.store.directory(trial) / "threshold.json")
        return self


def pictures():
    """Returns twelve images of each set and part, each of one grey level that no other has."""
    grey = iter(range(144))
    found = {}
    for name in ("id_validation", "proxy_ood", "id_test", "held_out"):
        for part in ("clean", "noised", "restored"):
            levels = [next(grey) for _ in range(12)]
            found[f"{name}_{part}"] = np.stack([np.full((8, 8, 1), level, np.uint8) for level in levels])
        found[f"{name}_logits"] = logits_of(np.linspace(0.4, 0.95, 12))
    return found


@pytest.fixture
def study(store):
    return Study(store)


def draw(study, **replaced):
    """Returns the figures of a study by name, unsaved, with functions of the module replaced."""
    drawn = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunStore, "write_figure", lambda store, name, figure, dpi: drawn.__setitem__(name, figure))
        for name, function in replaced.items():
            patch.setattr(figures, name, function)
        draw_figures(study.records, study.store, study.datasets)
    return drawn


def draw_without_images(study):
    """Images take longest."""
    return draw(study, image_rows=lambda *_, **__: None)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The figures of `mine-without-1`, of several networks: `std-5` alone has errors as in `ERRORS`."""
    study, low = Study(RunStore(tmp_path_factory.mktemp("drawn"))), (0.001,) * 3
    study.add(method="std-5", seed=1, ood_errors=low).add(method="classifier")
    study.add(method="cross-entropy", ood_errors=low).add(method="std-0", ood_errors=low)
    study.add(method="std-5").add(method="std-1", ood_errors=low)
    return {name.removesuffix("_mine-without-1"): figure for name, figure in draw(study).items()}


def bars(figure):
    """Returns `{class: how many of the largest errors are of it}`."""
    (panel,) = figure.axes
    heights = {round(bar.get_x() + bar.get_width() / 2): int(bar.get_height()) for bar in panel.patches}
    return {tick.get_text().split("\n")[0]: heights[i] for i, tick in enumerate(panel.get_xticklabels())}


def grey_levels(panel):
    """Returns the grey levels of the images of a panel in their order: row by row."""
    levels = []
    for image in panel.images:
        (level,) = np.unique(image.get_array())
        levels.append(round(float(level) * 255))
    return levels


def medians(figure):
    """Returns the medians of the boxes of a figure by their places."""
    (panel,) = figure.axes
    lines = [line.get_data() for line in panel.lines]
    return {round(np.mean(x)): y[0] for x, y in lines if np.ptp(x) > 0.5}


class TestWhichNetworks:
    def test_all_figures_are_of_each_data_set_and_held_out_class(self, study):
        drawn = draw_without_images(study.add().add("mine-without-3"))
        assert set(drawn) == {f"{name}_mine-without-{index}" for name in ("confidence", *NAMES) for index in (1, 3)}

    def test_one_network_is_the_first_with_the_loss_of_the_paper(self, drawn):
        assert medians(drawn["error_by_class"])[1] == pytest.approx(0.3)

    def test_all_methods_of_the_first_seed_with_a_decoder_are_compared(self, drawn):
        titles = [panel.get_title() for panel in drawn["confidence"].axes if panel.get_visible()]
        assert titles == ["cross-entropy", "std-0", "std-5", "std-1"]

    def test_without_the_papers_loss_it_is_the_first_with_a_decoder(self, study):
        study.add(method="classifier").add(method="cross-entropy").add(method="std-0", ood_errors=(0.001,) * 3)
        assert medians(draw_without_images(study)["error_by_class_mine-without-1"])[1] == pytest.approx(0.3)

    def test_without_a_decoder_there_is_nothing_to_draw(self, study):
        assert draw(study.add(method="classifier")) == {}


class TestErrors:
    @pytest.mark.parametrize(
        ("index", "ticks"),
        [
            ("0", ["0 (held out)\nn = 3", "b\nn = 2", "c\nn = 1", "d\nn = 1"]),
            ("3", ["a\nn = 2", "b\nn = 1", "c\nn = 1", "3 (held out)\nn = 3"]),
        ],
    )
    def test_the_held_out_class_stands_where_it_belongs(self, study, index, ticks):
        drawn = draw_without_images(study.add(f"mine-without-{index}"))
        for name in ("error_by_class", "largest_errors"):
            (panel,) = drawn[f"{name}_mine-without-{index}"].axes
            assert [tick.get_text() for tick in panel.get_xticklabels()] == ticks

    def test_errors_are_those_of_each_class(self, drawn):
        assert medians(drawn["error_by_class"]) == pytest.approx({0: 0.015, 1: 0.3, 2: 0.03, 3: 0.05})

    def test_the_largest_are_counted(self, study, monkeypatch):
        monkeypatch.setattr(figures, "LARGEST", 4)
        counted = bars(draw_without_images(study.add())["largest_errors_mine-without-1"])
        assert counted == {"a": 0, "1 (held out)": 3, "c": 0, "d": 1}

    def test_of_fewer_images_all_are_counted(self, drawn):
        assert bars(drawn["largest_errors"]) == {"a": 2, "1 (held out)": 3, "c": 1, "d": 1}


class TestConfidences:
    def test_correct_wrong_and_ood_images_and_the_threshold(self, drawn):
        panel = drawn["confidence"].axes[0]
        groups = {stairs.get_label(): stairs.get_data() for stairs in panel.patches}
        assert list(groups) == ["correct (n = 2)", "wrong (n = 2)", "OOD (n = 3)"]
        for data, confidences in zip(groups.values(), ((0.5, 0.95), (0.65, 0.85), (0.6, 0.7, 0.9)), strict=True):
            filled = np.nan_to_num(data.values) > 0
            assert data.values[filled] == pytest.approx(100 / len(confidences))
            middles = (data.edges[:-1] + data.edges[1:])[filled] / 2
            assert middles == pytest.approx(confidences, abs=np.diff(data.edges).max())
        (line,) = panel.lines
        assert line.get_xdata() == pytest.approx([THRESHOLD] * 2)


class TestROC:
    @pytest.mark.parametrize(
        ("name", "point", "held_out"),
        [
            ("test", (1 / 3, 2 / 4), "held-out class"),  # 0.9 passes; 0.95 and 0.85 are kept
            ("validation", (1 / 2, 2 / 2), "proxy OOD images"),  # 0.95 passes; all are kept
        ],
    )
    def test_the_threshold_is_a_point_of_the_curve(self, drawn, name, point, held_out):
        (panel,) = drawn[f"roc_{name}"].axes
        curve, _, marked = panel.lines
        assert curve.get_label().startswith(f"{held_out}: AUROC")
        (found,) = marked.get_xydata()
        assert found == pytest.approx(point)
        assert marked.get_label().startswith("threshold 0.800\n")
        assert np.abs(curve.get_xydata() - found).sum(axis=1).min() < 1e-9
        assert panel.get_title() == f"Maximum softmax, {name} images"


class TestImages:
    def test_held_out_images_stand_above_what_is_made_of_them(self, drawn):
        (panel,) = drawn["restored"].axes
        assert grey_levels(panel) == list(range(108, 144))  # the last of the four sets
        assert [label.get_text() for label in panel.get_yticklabels()] == ["original", "under noise", "restored"]
        columns = [label.get_text() for label in panel.get_xticklabels()]
        assert columns == [f"a\n{confidence:.2f}" for confidence in np.linspace(0.4, 0.95, 12)]

    def test_proxy_images_stand_beside_id_images(self, drawn):
        left, right = drawn["proxy_ood"].axes
        assert [left.get_title(), right.get_title()] == ["proxy OOD images", "ID images"]
        for panel, first in ((left, 36), (right, 72)):  # the second set and the third
            assert grey_levels(panel) == [first + 12 * part + 2 * i for part in range(3) for i in range(6)]
