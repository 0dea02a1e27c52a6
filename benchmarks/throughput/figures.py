"""The figure of training rates. matplotlib is imported where it is drawn."""


def steps_figure(summary):
    """Draws training rates as grouped bars, a panel per network, relative to stock Keras in float32.

    Where stock Keras was not measured in float32, rates are relative to the slowest form of the network and batch size.

    Args:
        summary: As `benchmarks.throughput.steps.summary` returns it.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(summary["network"]))
    forms = list(dict.fromkeys(summary["form"]))
    columns = min(2, len(networks))
    lines = -(-len(networks) // columns)
    figure = Figure(figsize=(6.5 * columns, 3.6 * lines + 0.6), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flat
    for panel in panels[len(networks) :]:
        panel.set_visible(False)
    unit = "stock Keras in float32" if summary["to_stock"].notna().all() else "the slowest form"
    for network, panel in zip(networks, panels, strict=False):
        rows = summary[summary["network"] == network]
        groups = list(dict.fromkeys(zip(rows["batch_size"], rows["precision"], strict=True)))
        for index, form in enumerate(forms):
            bars = [_bar(rows, group, form) for group in groups]
            width = 0.85 / len(forms)
            places = [place + (index - (len(forms) - 1) / 2) * width for place in range(len(groups))]
            drawn = panel.bar(places, bars, width, label=form, color=f"C{index}")
            panel.bar_label(
                drawn, [f"{bar:.1f}" if bar > 0 else "" for bar in bars], fontsize="x-small", rotation=90, padding=2
            )
        panel.axhline(1, color="0.3", linewidth=0.8, zorder=0)
        panel.set_xticks(range(len(groups)), [f"{precision}\nbatch {size}" for size, precision in groups])
        panel.set(title=network, ylabel="training rate")
        panel.margins(y=0.15)
        panel.grid(axis="y", alpha=0.3)
        panel.set_axisbelow(True)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(forms), fontsize="small"
    )
    figure.suptitle(f"Rate of training steps (1: {unit}, same network and batch)", fontsize="medium")
    return figure


def _bar(rows, group, form):
    """Returns the height of a form's bar, 0 where it was not measured."""
    of_size = rows[rows["batch_size"] == group[0]]
    row = of_size[(of_size["precision"] == group[1]) & (of_size["form"] == form)]
    if row.empty:
        return 0.0
    if row["to_stock"].notna().all():
        return float(row["to_stock"].iloc[0])
    return float(row["training"].iloc[0] / of_size["training"].min())
