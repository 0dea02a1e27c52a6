"""What cannot be done with a network, found out before anything is trained."""

from kls.ood.scores import SCORES
from kls.study.plan import PlanError
from kls.study.trial import ALL, HEAD, check_fine_tune


def check_fine_tuning(name, description, fine_tune, methods, scores):
    """Raises `PlanError` unless the backbone of a network can be kept, or trained in part, as asked.

    Args:
        name: Name of the network.
        description: Its `Description`, `None` for a registered one.
        fine_tune: As in `Trial`.
        methods: The `Method`s of the study.
        scores: Names of the scores to store.
    """
    check_fine_tune(fine_tune)
    if description is None:
        why = f"{name}, whose weights are drawn by the seed"
    elif description.rates is None:
        why = f"{name}, whose last layer is not found"
    elif description.drawn:
        why = f"{name}, where those of {', '.join(description.drawn[:3])} are drawn by the seed"
    else:
        why = None
    if why:
        raise PlanError(f"`fine_tune` needs a `model` with pretrained weights before its last layer. Received: {why}")
    if fine_tune not in (HEAD, ALL) and fine_tune > description.layers:
        raise PlanError(
            f"`fine_tune` must be at most {description.layers}, the layers of the backbone of {name} that can be "
            f"trained. Received: {fine_tune}"
        )
    need_images = [method.label for method in methods if method.mixing or method.whole]
    need_images += [score for score in scores if SCORES[score]().uses_images]
    if fine_tune == HEAD and need_images:
        raise PlanError(f"{need_images[0]} needs images, of which a head sees features. Received: fine_tune='head'")


def check_last_layer(name, description, methods, features, scores):
    """Raises `PlanError` if the inputs of a last layer are needed of a model whose last layer is not found."""
    need = [method.label for method in methods if method.dropout or method.needs_features]
    if description.rates is None and (need or _need_features(features, scores)):
        what = need[0] if need else "`features`, and scores of features,"
        raise PlanError(f"{what} need a model that ends in a Dense layer or a 1x1 convolution. Received: {name}")


def check_features(plan, features, scores):
    """Raises `PlanError` if features are wanted of a network whose dropout draws others in each pass."""
    for trial in plan.trials:
        if trial.method.dropout and _need_features(features, scores):
            raise PlanError(
                f"`features`, and scores of features, cannot be had of {trial.label}, which has no one set."
            )


def _need_features(features, scores):
    return features or any(SCORES[name]().uses_features for name in scores)
