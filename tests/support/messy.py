"""Tables as people have them, made from one clean table: ``python tests/support/messy.py FOLDER``.

Each is a file, the clean table that it means (CSV with an empty cell for a gap), what must be told
of it, and the words of the command line that it needs; or the error it must end in.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from clean_table import (
    NAMES,
    ROWS,
    changed,
    clean,
    comma,
    each,
    grouped,
    parquet,
    quoted,
    records,
    sheet,
    text,
    typed,
    with_column,
    zipped,
)


@dataclass(frozen=True)
class Messy:
    """A file and what it means."""

    name: str
    file: str
    data: bytes
    meant: str = ""  # empty: it ends in an error
    told: tuple[str, ...] = ()
    words: tuple[str, ...] = ()  # more of the command line
    target: str = "bought"
    code: int = 0


def made() -> list[Messy]:
    """All of them."""
    return [
        *_encodings(),
        *_notations(),
        *_layouts(),
        *_columns(),
        *_formats(),
        *_refused(),
        *_refused_files(),
    ]


def _encodings() -> list[Messy]:
    plain = text(clean())
    german = text({k: [comma(c) for c in v] for k, v in clean().items()}, ";")
    cyrillic = plain.replace("Oslo", "Осло").replace("Zürich", "Цюрих").replace("Köln", "Кёльн")
    shown = [
        ("utf-8 with its mark", plain.encode("utf-8-sig"), ()),
        ("utf-16 with its mark", plain.encode("utf-16"), ("read as UTF-16",)),
        ("utf-16 without a mark", plain.encode("utf-16-le"), ("read as UTF-16-LE, which",)),
        ("cp1252", plain.encode("cp1252"), ("not UTF-8 (line", "--encoding NAME")),
        ("latin-1, semicolons, commas", german.encode("latin-1"), ("not UTF-8", "is read as")),
    ]
    found = [Messy(name, "t.csv", data, plain, told) for name, data, told in shown]
    for name in ("cp1251", "koi8-r"):
        words = ("--encoding", name)
        found.append(Messy(name, "t.csv", cyrillic.encode(name), cyrillic, (), words))
    return found


def _notations() -> list[Messy]:
    plain = text(clean())
    table = clean()
    european = {k: [comma(c) for c in v] for k, v in table.items()}
    points = european | {
        "income": [comma(grouped(c).replace(",", "_")).replace("_", ".") for c in table["income"]]
    }
    age = "column age: "
    return [
        Messy("thousands", "t.csv", text(each("income", lambda c: quoted(grouped(c)))).encode(),
              plain, ("column income: ",)),
        Messy("thousands with points", "t.csv", text(points, ";").encode(), plain,
              ("column income: ",)),
        Messy("tabs and decimal commas", "t.tsv", text(european, "\t").encode(), plain,
              ("column height: ",)),
        Messy("bars", "t.csv", text(table, "|").encode(), plain),
        Messy("spaces between columns", "t.dat", text(table, "   ").encode(), plain),
        Messy("kilograms behind", "t.csv", text(each("age", lambda c: f"{c} kg")).encode(), plain,
              (f"{age}{table['age'][0]} kg (line 2) is read as {table['age'][0]}, in kg",)),
        Messy("a unit behind a decimal comma", "t.csv",
              text(european | {"height": [f"{comma(c)} m" for c in table["height"]]}, ";").encode(),
              plain, ("column height: ", "in m")),
        Messy("dollars", "t.csv", text(each("income", lambda c: quoted("$" + grouped(c)))).encode(),
              plain, ("column income: $",)),
        Messy("per cent", "t.csv", text(each("age", lambda c: f"{c}%")).encode(),
              text(each("age", lambda c: f"{int(c) / 100}")),
              (f"{age}{table['age'][0]}% is read",)),
        Messy("a minus behind", "t.csv", text(each("age", lambda c: f"{c}-")).encode(),
              text(each("age", lambda c: f"-{c}")), (f"{age}{table['age'][0]}- is read as -",)),
        Messy("the minus of typesetters", "t.csv",
              text(each("age", lambda c: f"\u2212{c}")).encode(),
              text(each("age", lambda c: f"-{c}"))),
        Messy("dates", "t.csv",
              text(each("age", lambda c: f"2024-01-{int(c) % 28 + 1:02}")).encode(),
              text(each("age", lambda c: str(19723 + int(c) % 28))),
              (f"{age[:-2]} holds dates or times (year-month-day), read as days",)),
        Messy("dates of Germany and times", "t.csv",
              text(each("age", lambda c: f"{int(c) % 28 + 1}.1.2024 12:00")).encode(),
              text(each("age", lambda c: f"{19723 + int(c) % 28}.5")),
              (f"{age[:-2]} holds dates or times (day.month.year)",)),
    ]  # fmt: skip


def totals(table: dict[str, list[str]], of: Callable[[list[float]], float]) -> str:
    """A row of sums or means of the columns of numbers."""
    made = [f"{of([float(c) for c in table[name]]):.2f}" for name in ("age", "height", "income")]
    return ",".join([*made, of.__name__.title(), ""])


def _layouts() -> list[Messy]:
    plain, table = text(clean()), clean()
    lines = plain.splitlines()
    shown: list[tuple[str, str, tuple[str, ...]]] = [
        ("carriage returns and newlines", plain.replace("\n", "\r\n"), ()),
        ("carriage returns alone", plain.replace("\n", "\r"), ()),
        ("spaces around cells", text(table, " , "), ()),
        ("separators at the end", plain.replace("\n", ",\n"), ()),
        ("separators at the end of rows", lines[0] + "\n" + "".join(f"{x},\n" for x in lines[1:]),
         ()),
        ("blank lines", plain.replace("\n", "\n\n"), ()),
        ("lines of separators", plain + ",,,,\n,,,,\n", ("no value in line 122, 123: left out",)),
        ("comments above", "# from a lab\n# in May\n" + plain, ("2 lines that begin with #",)),
        ("comments between", "\n".join([*lines[:9], "# the second day", *lines[9:]]) + "\n",
         ("1 line that begins with # left out, below the header line 10",)),
        ("titles above", "Customers of May\n\n" + plain, ("line 1 above the names of the col",)),
        ("sep= above", "sep=;\n" + text(table, ";"), ()),
        ("units below the header", "\n".join([lines[0], "years,m,EUR,,", *lines[1:]]) + "\n",
         ("line 2 holds units (age in years, height in m, income in EUR) and no data",)),
        ("names in quotes over two lines", plain.replace("age,", '"age\n(years)",', 1), ()),
        ("a second column of a name", plain.replace("height", "age", 1),
         ("a second column named age is called age.2",)),
        ("row names of R", "\n".join([lines[0], *(f'"{i}",{x}' for i, x in enumerate(lines[1:]))]),
         ("the rows have one cell more than the header",)),
        ("names that are not ASCII", plain.replace("height", "Größe in 米", 1), ()),
        ("marks of the direction of writing", plain.replace("\n", "\n\u200e"),
         ("signs that cannot be seen",)),
        ("spaces in names", plain.replace("height", "  body   height ", 1), ()),
    ]  # fmt: skip
    shown += [
        ("the header once more", "\n".join([*lines[:40], lines[0], *lines[40:]]) + "\n",
         ("line 41 is the header once more: left out",)),
        ("sums below", plain + totals(table, sum) + "\n",
         ("line 122 holds sums or means of the rows above: left out",)),
        ("sums and means below", plain + totals(table, mean) + "\n" + totals(table, sum) + "\n",
         ("lines 122, 123 hold sums or means of the rows above: left out",)),
    ]  # fmt: skip
    found = [Messy(name, "t.csv", data.encode(), plain, told) for name, data, told in shown]
    headless = text(table, head=False)
    return [
        *found,
        Messy("no header", "t.csv", headless.encode(), plain, ("line 1 holds data: no header",),
              target="column5"),
        Messy("the index of pandas", "t.csv", text(with_column("", range(ROWS))).encode(), plain,
              ("column column1 counts the rows, left out",)),
        Messy("newlines and quotes in cells", "t.csv",
              text(each("city", lambda c: f'"the ""big""\n{c}, by the sea"')).encode(),
              text(each("city", lambda c: f'"the ""big"" {c}, by the sea"'))),
    ]  # fmt: skip


def _columns() -> list[Messy]:
    plain = text(clean())
    gaps = text(changed("age", "", 3, 7, 11))
    same = [
        ("an empty column", "note", [""] * ROWS, ("column note is empty, left out",)),
        ("a constant column", "note", [7] * ROWS, ("column note is 7 in every row, left out",)),
        ("one word in all rows", "note", ["x"] * ROWS, ("column note: 'x' in 120 rows, left",)),
        ("names of rows", "note", [f"n{i}" for i in range(36)] * 3 + ["q"] * 12, None),
        ("ids", "user_id", [10**17 + 7919 * i * i for i in range(ROWS)], None),
        ("numbers of the rows", "id", range(1, ROWS + 1), ("column id counts the rows, left",)),
    ]
    found = [
        Messy(name, "t.csv", text(with_column(head, cells)).encode(), plain, told)
        for name, head, cells, told in same
        if told is not None
    ]
    for cell in ("", "NA", "?", "-", "null", "n.d.", "#N/A"):
        data = text(changed("age", cell, 3, 7, 11)).encode()
        told = "column age: 3 gaps filled with the median"
        found.append(Messy(f"gaps by {cell!r}", "t.csv", data, gaps, (told,)))
    odd = {"inf": "'inf' (line 13)", "ill": "'ill' (line 13)", "1e999": "'1e999' (line 13)"}
    for cell, told in odd.items():
        data = text(changed("age", cell, 11)).encode()
        meant = text(changed("age", "", 11))
        found.append(
            Messy(f"one cell {cell}", "t.csv", data, meant, ("age: 1 cell without a", told))
        )
    flags = with_column("member", ["TRUE" if i % 3 else "FALSE" for i in range(ROWS)])
    whole = with_column("member", ["true" if i % 3 else "false" for i in range(ROWS)])
    ids = with_column("user_id", same[4][2])
    return [
        *found,
        Messy("-999 for a gap", "t.csv", text(changed("age", "-999", 3, 7)).encode(),
              text(changed("age", "", 3, 7)), ("column age: -999 (2 cells, the first in line 5)",)),
        Messy("ids of 17 digits", "t.csv", text(ids).encode(), text(ids),
              ("column user_id holds another whole number in every row",)),
        Messy("a country NA", "t.csv", text(changed("city", "NA", 3, 5, 8)).encode(),
              text(changed("city", "", 3, 5, 8)),
              ("column city: 3 gaps, the word '' (written 'NA')",)),
        Messy("booleans", "t.csv", text(flags).encode(), text(whole), ("column member: 2 words",)),
        Messy("a class of one row", "t.csv", text(changed("bought", "maybe", 5)).encode(),
              text(changed("bought", "maybe", 5)), ("1 class of one row: 'maybe' (line 7)",)),
        Messy("gaps in the target", "t.csv", text(changed("bought", "NA", 5, 9)).encode(),
              text(changed("bought", "", 5, 9)),
              ("2 rows without bought left out (written 'NA')",)),
    ]  # fmt: skip


def _formats() -> list[Messy]:
    plain, table = text(clean()), clean()
    data, many = plain.encode(), records(table)
    dated = [["the numbers of May"], [], *typed(table)]
    by_name = {name: [record[name] for record in many] for name in NAMES}
    gone = [{k: v for k, v in r.items() if (i, k) != (3, "age")} for i, r in enumerate(many)]
    return [
        Messy("gzip", "t.csv.gz", gzip.compress(data, mtime=0), plain, ("unpacked from gzip",)),
        Messy("bzip2", "t.csv.bz2", bz2.compress(data), plain, ("unpacked from bzip2",)),
        Messy("xz", "t.csv.xz", lzma.compress(data), plain, ("unpacked from xz",)),
        Messy("zip", "t.zip", zipped(a_csv=data), plain, ("a.csv unpacked from zip",)),
        Messy("gzip by another name", "t.csv", gzip.compress(data, mtime=0), plain,
              ("unpacked from gzip",)),
        Messy("excel", "t.xlsx", sheet(("Data", typed(table))), plain),
        Messy("excel, titles and sheets", "t.xlsx",
              sheet(("Read me", [["see below"]]), ("Data", dated)), plain,
              ("sheet 'Data' is read, the first that holds bought", "row 1 above the names")),
        Messy("excel, names in two rows", "t.xlsx",
              sheet(("Data", [["who", "", "what", "", "bought"],
                              ["age", "height", "income", "city", ""], *typed(table)[1:]])), plain,
              ("row 2 holds names below those above: who age, who height, what income",)),
        Messy("excel called csv", "t.csv", sheet(("Data", typed(table))), plain,
              ("it holds a workbook of Excel, whatever its name",)),
        Messy("json records", "t.json", json.dumps(many).encode(), plain),
        Messy("json by name", "t.json", json.dumps(by_name).encode(), plain),
        Messy("json lines with a gap", "t.jsonl",
              "".join(f"{json.dumps(r)}\n" for r in gone).encode(),
              text(changed("age", "", 3)), ("column age: 1 gap filled with the median",)),
        Messy("parquet", "t.parquet", parquet(table), plain),
    ]  # fmt: skip


def bad(name: str, content: str | bytes, *told: str, code: int = 2, **more: object) -> Messy:
    """A table that ends in an error."""
    data = content if isinstance(content, bytes) else content.encode()
    return Messy(name, str(more.pop("file", "t.csv")), data, "", told, code=code, **more)  # type: ignore[arg-type]


def _refused() -> list[Messy]:
    plain = text(clean())
    lines = plain.splitlines()

    short = "\n".join([*lines[:6], "33,1.80", *lines[6:]])
    long = "\n".join([*lines[:6], "33,1.80,2000,Bergen, Norway,yes", *lines[6:]])
    mixed = changed("height", '"1,80"', 4)
    swapped = each("age", lambda c: f"{int(c) % 12 + 1:02}/{int(c) % 9 + 1:02}/2024")
    doubt = {**clean(), "height": ["1", "2"] * (ROWS // 2)}
    doubt["income"] = [f"{i % 9 + 1},{i * 7 % 1000:03}" for i in range(ROWS)]
    censored = clean()
    censored["income"] = [c if i % 4 else "<1.0" for i, c in enumerate(censored["income"])]
    return [
        bad("a total that is none", plain + "Total,,9.50,Oslo,yes\n",
            "line 122: 'Total' in column age", "delete the line"),
        bad("dates in two forms", text(each("age", lambda c: f"2024-03-{int(c) % 28 + 1:02}" if
            int(c) % 2 else f"{int(c) % 28 + 1}.3.2024")), "column age holds dates or times in sev",
            "(line ", "--drop age"),
        bad("marks of footnotes", text(each("income", lambda c: f"{c}*" if c[-1] in "01" else c)),
            "column income holds", "*' (line", "--drop income"),
        bad("a short row", short, "line 7: 2 cells, expected 5", "mend or delete the line"),
        bad("a separator in a cell", long, "line 7: 6 cells, expected 5", "put quotes around"),
        bad("a point and a comma", text(mixed), "column height holds", "1,80 (line 6)", "one way"),
        bad("day or month", text(swapped), "column age: ", ") may be day/month or month/day",
            "--drop age"),
        bad("thousands or decimals", text(doubt, "\t"), "column income: 1,000 (line 2) may have",
            "--decimal"),
        bad("kg and g", text(changed("age", "500 g", 9) | {"age": [
            "500 g" if i == 9 else f"{c} kg" for i, c in enumerate(clean()["age"])]}),
            "column age holds", "500 g (line 11)", "in one unit"),
        bad("one without its unit", text({**clean(), "age": [
            c if i == 9 else f"{c} kg" for i, c in enumerate(clean()["age"])]}),
            "column age holds", "(line 11)", "in one unit"),
        bad("per cent and not", text({**clean(), "age": [
            c if i == 9 else f"{c}%" for i, c in enumerate(clean()["age"])]}),
            "column age holds", "(line 11)", "one unit"),
        bad("a quote that stays open", "\n".join([*lines[:9], '33,"1.8', *lines[9:]]),
            "line 10: a quote opens here", "close it"),
        bad("the target twice", plain.replace("income", "bought", 1), "2 columns named bought",
            "rename all but one"),
        bad("many words among numbers", text(each("income", lambda c: c if c[-1] in "0123" else
            f"about {c}")), "column income holds", "--drop income"),
        bad("a censored target", text(censored), "income holds", "'<1.0' (line 2)", "write numbers",
            target="income"),
        bad("no such target", plain, "there is no column 'Bought'; did you mean 'bought'?",
            target="Bought"),
        bad("names alone", lines[0] + "\n", "holds no rows below its header; add rows"),
        bad("one row", "\n".join(lines[:2]) + "\n", "has 1 usable row, too few to train", "give 8"),
    ]  # fmt: skip


def _refused_files() -> list[Messy]:
    plain = text(clean())
    return [
        bad("nothing", b"", "is empty"),
        bad("a page of the web", "\n<!DOCTYPE html>\n<html><body>Log in</body></html>\n",
            "holds a web page (HTML), not its table: save"),
        bad("lists in parquet", parquet({**clean(), "age": [[1, 2]] * ROWS}), "column age holds",
            "(row 0)", "one value in a cell", file="t.parquet"),
        bad("a zero byte", plain.encode() + b"\0", "it holds a zero byte; save it as CSV"),
        bad("utf-16 that breaks off", plain.encode("utf-16")[:-1],
            "is damaged: it begins as UTF-16"),
        bad("gzip that breaks off", gzip.compress(plain.encode(), mtime=0)[:-20], "is damaged",
            "save it again", code=2, file="t.csv.gz"),
        bad("zip of two", zipped(a_csv=plain.encode(), b_csv=plain.encode()),
            "holds 2 files (a.csv, b.csv), expected one table; unpack it", code=2, file="t.zip"),
        bad("json that breaks off", json.dumps(records(clean()))[:-9], "line 1: ", "mend it there",
            code=2, file="t.json"),
        bad("json lines of which one is broken", "".join(
            f"{json.dumps(r)[: -1 if i == 5 else None]}\n" for i, r in enumerate(records(clean()))),
            "line 6: ", "mend it there", code=2, file="t.jsonl"),
        bad("a name twice in json", json.dumps(records(clean())).replace("height", "age", 1),
            "two values named age", "rename all but one", file="t.json"),
        bad("a short row of json", json.dumps({"columns": ["x", "bought"], "data": [[1]]}),
            "row 1: 1 cell, expected 2 (x, bought)", "mend or delete", file="t.json"),
        bad("a list in a cell of json", json.dumps([{**r, "age": [1]} for r in records(clean())]),
            "column age holds '[1]' (row 1)", "one value in a cell", file="t.json"),
    ]  # fmt: skip


if __name__ == "__main__":
    for i, one in enumerate(made()):
        place = Path(sys.argv[1]) / f"{i:02}-{one.name.replace(' ', '-').replace('/', '')}"
        place.mkdir(parents=True)
        (place / one.file).write_bytes(one.data)
