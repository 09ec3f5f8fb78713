"""Tables of the commands."""

from rich.console import Console

from keras_senet.cli import tables


def test_no_name_or_figure_is_cut_on_a_narrow_terminal(monkeypatch, capsys):
    monkeypatch.setattr(tables, "console", Console(width=30))
    table = tables.make_table("Exports", "file", "max abs. error", "ms/image")
    table.add_row("model.float16.tflite", "1.1e-06", "12.34")
    tables.show(table)
    printed = capsys.readouterr().out
    for text in ("model.float16.tflite", "1.1e-06", "12.34", "max abs. error"):
        assert text in printed
