from dataclasses import replace

import pytest

from kls.study.statistics import BETTER, SAME, UNKNOWN, WORSE, Comparison, Uncertainty
from kls.study.verdict import AS_TRAINED, NORMALISED, TEMPERATURE, Line, Verdict, answer_of

SIZE = 1200
AGREE, TOLD, OPEN = 1e-8, 1e-6, 1e-3  # variances


def line(metric, difference, variance=TOLD, correction=AS_TRAINED, n=3):
    name = metric.partition("_")[0]
    spread = Uncertainty(n, SIZE, variance if n > 1 else 0.0, 1e-9, 0.0)
    return Line(metric, correction, Comparison(name, 0.5, 0.5 + difference, spread, 0.95, 0.95, 0.0025))


def verdict(*lines, **changes):
    given = Verdict("digits, resnet8v1", "Should you?", "gamma=0.9", lines, "360 test images", "accuracy", "", {}, {})
    return replace(given, **changes)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ((BETTER, SAME), "Yes"),
        ((BETTER, UNKNOWN), "Yes"),
        ((WORSE, SAME), "No"),
        ((WORSE, UNKNOWN), "No"),
        ((BETTER, WORSE, UNKNOWN), "It depends"),
        ((SAME, SAME), "It makes no difference"),
        ((SAME, UNKNOWN), "Cannot tell"),
    ],
)
def test_the_answer_is_that_of_the_words(words, answer):
    assert answer_of(words) == answer


class TestSentences:
    """What is said of comparisons that are made up."""

    @pytest.mark.parametrize(
        ("lines", "said", "method"),
        [
            (
                [line("accuracy", 0.02), line("auroc_far", 0.001, OPEN)],
                "Yes: gamma=0.9 is better in accuracy, and worse in nothing after correction. Cannot tell: AUROC far.",
                "gamma=0.9",
            ),
            (
                [line("accuracy", 0.0, AGREE), line("ece", 0.05), line("ece", 0.02, correction=TEMPERATURE)],
                "No: gamma=0.9 is worse in ECE, and better in nothing after correction.",
                "gamma=1",
            ),
            (
                [line("accuracy", 0.0, AGREE), line("ece", 0.0, AGREE), line("ece", 0.02, correction=TEMPERATURE)],
                "No: gamma=0.9 is worse in ECE after temperature scaling, and better in nothing after correction.",
                "gamma=1",
            ),
            (
                [line("accuracy", 0.02), line("nll", 0.5), line("nll", 0.0, OPEN, TEMPERATURE)],
                "Yes: gamma=0.9 is better in accuracy, and worse in nothing after correction. As trained gamma=0.9 is "
                "worse in NLL; after temperature scaling: cannot tell.",
                "gamma=0.9",
            ),
            (
                [line("accuracy", 0.02), line("auroc_far", -0.1), line("auroc_far", -0.05, correction=NORMALISED)],
                "It depends: gamma=0.9 is better in accuracy, but worse in AUROC far. By accuracy, take gamma=0.9.",
                "gamma=0.9",
            ),
            (
                [line("accuracy", 0.0, OPEN), line("ece", -0.1), line("aurc", 0.1)],
                "It depends: gamma=0.9 is better in ECE, but worse in AURC. By accuracy, one cannot decide: stay with "
                "gamma=1. Cannot tell: accuracy.",
                "gamma=1",
            ),
            (
                [line("accuracy", 0.0, AGREE), line("ece", 0.05), line("ece", 0.0, AGREE, TEMPERATURE)],
                "It makes no difference: gamma=0.9 is practically the same in all metrics after correction. As trained "
                "gamma=0.9 is worse in ECE; after temperature scaling: practically the same.",
                "gamma=1",
            ),
        ],
    )
    def test_each_answer_names_the_metrics_it_stands_on(self, lines, said, method):
        found = verdict(*lines)
        assert " ".join(str(found).split("\n  digits")[0].split()) == f"Should you? {said}"
        assert found.method == method

    def test_it_says_what_it_would_take_to_tell(self):
        accuracy = line("accuracy", 0.01, 1e-4)
        found = verdict(accuracy, line("ece", 0.0, OPEN))
        seeds, images = accuracy.comparison.seeds_needed, accuracy.comparison.images_needed
        assert images is None
        assert f"Should you? Cannot tell. To tell by accuracy it takes {seeds:,} seeds." in str(found)
        assert found.method is None

    def test_by_another_metric_if_the_preferred_one_is_told(self):
        found = verdict(line("accuracy", 0.0, AGREE), line("ece", 0.0, OPEN))
        assert "Cannot tell. To tell by ECE it takes " in str(found)

    def test_with_neither_seeds_nor_images_it_takes_both(self):
        spread = Uncertainty(3, SIZE, OPEN, OPEN, 0.0)
        accuracy = line("accuracy", 0.0)
        found = verdict(replace(accuracy, comparison=replace(accuracy.comparison, uncertainty=spread)))
        assert " ".join(str(found).split()).count("it takes both more seeds and more images.") == 1

    def test_the_last_line_says_which_difference_could_not_be_seen(self):
        accuracy = line("accuracy", 0.0, 1e-5)
        one = accuracy.comparison
        text = " ".join(str(verdict(accuracy, line("ece", 0.2))).split())
        assert f"An accuracy difference under {100 * one.high:.2f} points could not have been seen with 3 seeds" in text
        needed = one.uncertainty.seeds_needed(0.0025, 0.95)
        assert text.endswith(f"and 360 test images; for one of 0.25 points it takes {needed:,} seeds.")
        assert str(verdict(line("accuracy", 0.02, AGREE))).endswith("and 360 test images.")

    def test_one_seed_never_names_a_winner(self):
        found = verdict(line("accuracy", 0.2, n=1), line("ece", 0.2, n=1), shortfalls={"gamma=0.9": "ECE rises"})
        assert found.method is None
        assert str(found).startswith("Should you? Cannot tell. One seed does not tell one way to train from another.\n")
        assert "One seed cannot tell between trainings" in " ".join(str(found).split())
        assert "Train 3 seeds at least." in " ".join(str(found).split())
        assert {line.word for line in found.lines} == {UNKNOWN}

    def test_lines_are_aligned_within_80_columns(self):
        far = "auroc_of_a_very_long_name_of_images"
        found = verdict(
            line("accuracy", -0.6612, OPEN),
            line("nll", 12.3456),
            line("nll", -0.1, AGREE, TEMPERATURE),
            line(far, 0.0, AGREE),
            candidate="my_method " + "strength=0.123456 " * 5,
        )
        rows = str(found).splitlines()
        assert max(map(len, rows)) <= 80
        numbers = [row for row in rows if "[" in row]
        assert len(numbers) == 4
        assert len({row.index("[") for row in numbers}) == 1
        first, last = (rows.index(row) for row in numbers[2:])
        width = numbers[3].index("+0.00")
        heading = "".join(row[:width].replace(" ", "") for row in rows[first + 1 : last + 1])
        assert heading == f"AUROC{far.removeprefix('auroc_')}"
