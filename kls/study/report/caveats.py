"""What keeps the numbers of a training from meaning much: too few steps, images learned by heart, OOD data seen."""

FEW_STEPS = 200  # 600 textures: 34 % after 99 steps, 40 % after 198, 41 % after 396 and 801 (ResNet v1-8, n = 3)
FAR_ABOVE = 0.2


def caveats_of_plan(steps):
    """Returns what to say of trainings before they begin, a list of sentences.

    Args:
        steps: `{trial: number of all its training steps}`.
    """
    found = [
        (f"{trial.dataset} {trial.model}", caveat_of_steps(count))
        for trial, count in steps.items()
        if trial.starts_anew
    ]
    return [f"{name}: {caveat}." for name, caveat in dict.fromkeys(found) if caveat]


def caveats(record):
    """Returns what to say of a finished trial, a list of clauses.

    Args:
        record: The trial's recipe, and the record of what came of it.
    """
    found = []
    if record["starts_anew"]:
        found.append(caveat_of_steps(record["train_images"] // record["batch_size"] * record["epochs"]))
    gap = record["accuracy_train"] - record["accuracy_last"]
    if gap > FAR_ABOVE:
        found.append(f"accuracy is {100 * gap:.0f} points higher on training images, which the network knows by heart")
    if seen := sorted({name for name, _ in record.get("others", ())} & set(record.get("ood", ()))):
        found.append(f"{' and '.join(seen)} are not new to the network, which was trained on other images of them")
    return [clause for clause in found if clause]


def caveat_of_steps(steps):
    """Returns what to say of a training of so many steps, or `None` if they are enough."""
    if steps >= FEW_STEPS:
        return None
    return f"only {steps} training steps, with fewer than {FEW_STEPS} a network has hardly begun to learn"
