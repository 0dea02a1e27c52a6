"""What the papers' figures share."""


def legend_below(panel, distance=0.2, **options):
    """Draws the legend of a panel below it, as far as a share of its height."""
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -distance), frameon=False, fontsize="small", **options)
