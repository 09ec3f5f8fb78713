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


def test_cells_and_titles_are_printed_as_they_are(capsys):
    table = tables.make_table("[bold]a[/bold]", "class [x]", "images")
    table.add_row("[/red]", ":cat:")
    tables.show(table)
    tables.console.print("[/] :cat: [link]")
    with tables.status("[/x] \udcff"):
        pass
    printed = capsys.readouterr().out
    for text in ("[bold]a[/bold]", "class [x]", "[/red]", ":cat:", "[/] :cat: [link]"):
        assert text in printed
