"""Pictures of a run, as PNG files."""

from keras_senet.extras import require


def _figure(width, height, columns=1):
    """A figure that no window system is needed for."""
    figure = require("matplotlib.figure", "train").Figure(figsize=(width, height), layout="constrained", dpi=120)
    return figure, figure.subplots(1, columns)


def training_curves(rows, path, title):
    """Loss and error (%) by epoch, training dashed and test solid as in the paper's Figure 4."""
    figure, (losses, errors) = _figure(9, 3.6, columns=2)
    epochs = [row["epoch"] for row in rows]
    for axes, name, scale in ((losses, "loss", lambda v: v), (errors, "accuracy", lambda v: 100 * (1 - v))):
        axes.plot(epochs, [scale(row[name]) for row in rows], "--", color="tab:blue", label="training")
        axes.plot(epochs, [scale(row[f"test_{name}"]) for row in rows], color="tab:red", label="test")
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
    losses.set(ylabel="cross-entropy", yscale="log")
    errors.set(ylabel="top-1 error (%)", ylim=(0, None))
    losses.legend()
    figure.suptitle(title)
    figure.savefig(path)


def confusion_matrix(counts, class_names, path, title):
    """Counts by true and predicted class; right answers in grey tones, wrong ones in red."""
    figure, axes = _figure(6, 5.6)
    axes.imshow(counts, cmap="Greys", vmax=2 * max(counts.max(), 1))
    for i, j in zip(*counts.nonzero(), strict=True):
        style = {"color": "black"} if i == j else {"color": "tab:red", "weight": "bold"}
        axes.text(j, i, counts[i, j], ha="center", va="center", **style)
    axes.set(
        xlabel="predicted", ylabel="true", title=f"{title}: {counts.sum() - counts.trace()} of {counts.sum()} wrong"
    )
    axes.set_xticks(range(len(class_names)), class_names)
    axes.set_yticks(range(len(class_names)), class_names)
    figure.savefig(path)
