"""Datasets that are a CSV file of paths and labels."""

from collections.abc import Sequence

from keras_senet.data.image_files import ImageFiles
from keras_senet.images.tables import Row, Table


class TableDataset(ImageFiles):
    """The image files of the rows of a table."""

    def __init__(self, rows: Sequence[Row], class_names: Sequence[str], upright: bool = True):
        indices = {name: index for index, name in enumerate(class_names)}
        files, names = [row.file for row in rows], [row.path for row in rows]
        labels = [indices[row.label] for row in rows]
        super().__init__(files, names, labels, class_names, upright)

    def listing(self) -> dict[str, int]:
        """The names and classes of the files, and their sizes: {"name (class)": bytes}."""
        classes = [self.class_names[label] for label in self.labels]
        sizes = super().listing().values()
        names = (f"{name} ({label})" for name, label in zip(self._names, classes, strict=True))
        return dict(zip(names, sizes, strict=True))


def load_table(table: Table, split: str, upright: bool = True) -> TableDataset:
    """The images of a split of a table. Raises as `Table.rows_of` does."""
    return TableDataset(table.rows_of(split), table.class_names, upright)
