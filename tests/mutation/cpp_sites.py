"""Mutants of C++: found by libclang, written as `(mutant(17) ? mutated : original)`.

One build of that source, for the baseline instruction set alone, serves all mutants. What the
compiler refuses behind a question (loops that OpenMP must recognize, constants, other types on the
two sides of a colon) is left out and counted: the compiler names the line, and is asked again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from clang import cindex
from schemata import Mutant, Site, draw, numbered

__all__ = ["in_cpp"]

ROOT = Path(__file__).resolve().parents[2]
UNITS = ("kernels.cpp", "matrices.cpp", "core/driver.cpp", "core/limits.cpp", "core/targets.cpp")
FOLDERS = ("cpp/rules/", "cpp/kernels/", "cpp/core/driver.cpp", "cpp/core/limits.cpp",
           "cpp/core/targets.cpp")  # fmt: skip
Kind = cindex.CursorKind
OPERATORS = {
    "+": "-", "-": "+", "*": "/", "/": "*", "%": "*", "<": "<=", "<=": "<", ">": ">=", ">=": ">",
    "==": "!=", "!=": "==", "&&": "||", "||": "&&", "&": "|", "|": "&", "<<": ">>", ">>": "<<",
    "+=": "-=", "-=": "+=", "*=": "/=", "/=": "*=",
}  # fmt: skip
NAMES_OF = {
    "<": "wrong boundary side", ">": "wrong boundary side", "=": "negated condition",
    "!": "negated condition", "&": "and for or", "|": "and for or",
}  # fmt: skip
NAMES = {"minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min"}
PAIRED = re.compile(r"^(beta|fresh|eps|decay|exp_avg)(1|2)?(_?)$")
FUNCTIONS = {Kind.FUNCTION_DECL, Kind.CXX_METHOD, Kind.CONSTRUCTOR, Kind.FUNCTION_TEMPLATE,
             Kind.CONVERSION_FUNCTION}  # fmt: skip
LEFT_OUT = {Kind.ENUM_DECL, Kind.TEMPLATE_NON_TYPE_PARAMETER, Kind.STATIC_ASSERT, Kind.CASE_STMT,
            Kind.TYPE_ALIAS_DECL, Kind.FIELD_DECL, Kind.TYPEDEF_DECL}  # fmt: skip


class Unit:
    """The sites of the files that a translation unit reads."""

    def __init__(self, path: Path, seen: set[tuple[str, int, int, str]]) -> None:
        self.texts: dict[str, bytes] = {}
        self.seen = seen
        self.sites: list[Site] = []
        options = ["-std=c++17", f"-I{ROOT / 'cpp'}", "-DSTEPSIZE_TARGET_NAME=baseline",
                   "-fopenmp", *system_headers()]  # fmt: skip
        unit = cindex.Index.create().parse(str(path), options)
        self.walk(unit.cursor, None, "")

    def text(self, file: str, start: int, end: int) -> str:
        if file not in self.texts:
            self.texts[file] = (ROOT / file).read_bytes()
        return self.texts[file][start:end].decode()

    def walk(self, parent: cindex.Cursor, statement: cindex.Cursor | None, function: str) -> None:
        for node in parent.get_children():
            name = node.location.file.name if node.location.file else ""
            file = os.path.relpath(name, ROOT) if name else ""
            if name and not file.startswith("cpp/"):
                continue
            kind = node.kind
            if kind in LEFT_OUT or kind.is_attribute():
                continue
            inner = function
            if kind in FUNCTIONS or kind in (Kind.CLASS_TEMPLATE, Kind.STRUCT_DECL):
                inner = f"{function}::{node.spelling}" if function else node.spelling
                inner = re.sub(r"<.*", "", inner)
            if kind in FUNCTIONS or kind == Kind.VAR_DECL:
                start = node.extent.start.offset
                head = self.text(file, start, start + 160).split("(")[0] if file else ""
                if "constexpr" in head or (kind == Kind.VAR_DECL and not function):
                    continue
            if file.startswith(FOLDERS) and function:
                self.find(node, parent, file, function)
            self.walk(node, statement, inner)

    def add(self, file: str, node: cindex.Cursor, function: str, kind: str, before: str, after: str,
            extent: tuple[int, int], form: str) -> None:  # fmt: skip
        start, end = extent
        key = (file, start, end, after)
        if before == after or key in self.seen or "#" in before:
            return
        self.seen.add(key)
        self.sites.append(Site(file, node.extent.start.line, function, kind, before, after,
                               (start, end, form)))  # fmt: skip

    def find(self, node: cindex.Cursor, parent: cindex.Cursor, file: str, function: str) -> None:
        start, end = node.extent.start.offset, node.extent.end.offset
        if not node.extent.end.file or os.path.relpath(node.extent.end.file.name, ROOT) != file:
            return
        whole = self.text(file, start, end)
        children = list(node.get_children())

        def add(kind: str, after: str, form: str = "value") -> None:
            self.add(file, node, function, kind, whole, after, (start, end), form)

        def part(child: cindex.Cursor) -> str:
            return self.text(file, child.extent.start.offset, child.extent.end.offset)

        kind = node.kind
        if kind in (Kind.BINARY_OPERATOR, Kind.COMPOUND_ASSIGNMENT_OPERATOR) and len(children) == 2:
            left, right = children
            token = self.text(file, left.extent.end.offset, right.extent.start.offset).strip()
            other = OPERATORS.get(token)
            if other:
                name = NAMES_OF.get(token[0], "wrong operator")
                assigned = kind == Kind.COMPOUND_ASSIGNMENT_OPERATOR
                add(name, f"{part(left)} {other} {part(right)}",
                    "statement" if assigned else "value")  # fmt: skip
        if kind == Kind.CONDITIONAL_OPERATOR and len(children) == 3:
            test, one, two = map(part, children)
            add("negated condition", f"({test}) ? ({two}) : ({one})")
        if (
            kind in (Kind.IF_STMT, Kind.WHILE_STMT)
            and children
            and children[0].kind.is_expression()
        ):
            test = children[0]
            extent = test.extent.start.offset, test.extent.end.offset
            text = part(test)
            self.add(file, test, function, "negated condition", text, f"!({text})", extent, "test")
        if kind == Kind.FOR_STMT:
            self.bound(node, children, file, function)
        if kind == Kind.INTEGER_LITERAL and whole.isdigit() and parent.kind != Kind.VAR_DECL:
            add("off by one", str(int(whole) + 1))
        if kind == Kind.FLOATING_LITERAL and whole[0].isdigit():
            add("changed threshold", f"(2 * {whole})" if float_of(whole) else "1.0")
        if kind == Kind.UNARY_OPERATOR and children and whole[0] in "-!":
            add("lost sign" if whole[0] == "-" else "negated condition", part(children[0]))
        if kind in (Kind.MEMBER_REF_EXPR, Kind.DECL_REF_EXPR):
            paired = re.fullmatch(r"(.*?\b)?(beta|fresh|eps)([12])(_?)", whole)
            if paired:
                before, stem, digit, tail = paired.groups()
                add("swapped beta", f"{before or ''}{stem}{3 - int(digit)}{tail}")
            elif whole in NAMES:
                add("swapped name", NAMES[whole])
        if kind == Kind.CALL_EXPR and len(children) >= 2:
            self.call(node, children, file, function, add, part)
        if parent.kind == Kind.COMPOUND_STMT and is_act(node, whole):
            add("removed statement", "", "statement")
        if kind == Kind.RETURN_STMT and not children and parent.kind == Kind.COMPOUND_STMT:
            add("removed check", "", "statement")

    def bound(self, node: cindex.Cursor, children: list[cindex.Cursor], file: str,
              function: str) -> None:  # fmt: skip
        """`i < n` of a loop: one too few, which OpenMP's loops allow, too."""
        for child in children[:-1]:
            if child.kind == Kind.BINARY_OPERATOR:
                sides = list(child.get_children())
                if len(sides) == 2 and sides[1].extent.end.offset == child.extent.end.offset:
                    extent = sides[1].extent.start.offset, sides[1].extent.end.offset
                    text = self.text(file, *extent)
                    self.add(file, child, function, "dropped tail", text, f"({text}) - 1", extent,
                             "value")  # fmt: skip

    def call(self, node, children, file, function, add, part) -> None:  # type: ignore[no-untyped-def]
        arguments = [child for child in node.get_arguments() if child is not None]
        if not arguments:  # of a template: all but what is called
            arguments = children[1:]
        whole = self.text(file, node.extent.start.offset, node.extent.end.offset)
        if len(arguments) >= 2:
            first, second = arguments[:2]
            a, b = part(first), part(second)
            at = first.extent.start.offset - node.extent.start.offset
            after = second.extent.end.offset - node.extent.start.offset
            middle = self.text(file, first.extent.end.offset, second.extent.start.offset)
            if a and b and at > 0 and middle.strip() == ",":
                add("swapped arguments", whole[:at] + b + middle + a + whole[after:],
                    "statement" if is_act(node, whole) else "value")  # fmt: skip
        name = whole.split("(")[0]
        if name == "root" and len(arguments) == 1:
            add("lost root", f"({part(arguments[0])})")


def is_act(node: cindex.Cursor, whole: str) -> bool:
    if node.kind == Kind.BINARY_OPERATOR:
        return re.search(r"[^=!<>]=[^=]", whole) is not None
    return node.kind in (Kind.COMPOUND_ASSIGNMENT_OPERATOR, Kind.CALL_EXPR)


def float_of(text: str) -> float:
    text = text.rstrip("fFlL")
    return float.fromhex(text) if text[:2].lower() == "0x" else float(text)


def system_headers() -> Iterator[str]:
    said = subprocess.run(["g++", "-E", "-x", "c++", "-", "-v"], input="", capture_output=True,
                          text=True, check=True).stderr  # fmt: skip
    inside = said.split("<...> search starts here:")[1].split("End of search list")[0]
    for folder in inside.split():
        if folder.startswith("/"):
            yield f"-isystem{folder}"


def one_line(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"//[^\n]*", " ", text))


def schema(text: bytes, chosen: list[tuple[Mutant, Site]]) -> bytes:
    """The text with all these mutants; its lines stay where they are."""
    opening: dict[int, list[tuple[int, str]]] = {}
    closing: dict[int, list[tuple[int, str]]] = {}
    for mutant, site in chosen:
        start, end, form = site.place  # type: ignore[misc]
        size = end - start
        ask = f"stepsize_asks({mutant.number})"
        mutated = one_line(site.after)
        if form == "value":
            before, after = f"({ask} ? ({mutated}) : (", "))"
        elif form == "test":
            before, after = f"{ask} ? bool({mutated}) : bool(", ")"
        elif mutated:
            before, after = f"do {{ if ({ask}) {{ {mutated}; }} else {{ ", "; } } while (0)"
        else:  # as one statement, since an `else` may follow
            before, after = f"do {{ if (!{ask}) {{ ", "; } } while (0)"
        opening.setdefault(start, []).append((size, before))
        closing.setdefault(end, []).append((size, after))
    parts = []
    for place in range(len(text) + 1):
        if place in closing:
            parts += [after for _, after in sorted(closing[place], key=lambda pair: pair[0])]
        if place in opening:
            parts += [b for _, b in sorted(opening[place], key=lambda pair: -pair[0])]
        parts.append(text[place : place + 1].decode("latin-1"))
    return "".join(parts).encode("latin-1")


HEADER = """// Which mutant is on trial, and which of them were passed by.
#pragma once
extern "C" __attribute__((visibility("default"))) int stepsize_mutant;
extern "C" __attribute__((visibility("default"))) unsigned char stepsize_mutants_met[];
inline bool stepsize_asks(int number) {
    stepsize_mutants_met[number] = 1;
    return number == stepsize_mutant;
}
"""


def refused(errors: str, tree: Path, numbers: set[int]) -> set[int]:
    """The mutants that the compiler's messages point at."""
    found = set()
    for name, line, column in re.findall(r"^(\S+?):(\d+):(\d+): error", errors, re.M):
        found |= on_line(Path(name), int(line), int(column), tree)
    if not found & numbers:
        for name, line, column in re.findall(r"(\S+?):(\d+):(\d+):", errors):
            found |= on_line(Path(name), int(line), int(column), tree)
    return found & numbers


def on_line(path: Path, line: int, column: int, tree: Path) -> set[int]:
    if tree not in path.parents or not path.exists():
        return set()
    text = path.read_text().splitlines()[line - 1]
    places = [(match.start(), int(match[1]))
              for match in re.finditer(r"stepsize_asks\((\d+)\)", text)]  # fmt: skip
    before = [number for start, number in places if start < column]
    return {before[-1]} if before else {number for _, number in places}


def in_cpp(
    work: Path, package: Path, count: int, seed: int, only: str
) -> tuple[list[Mutant], dict]:
    seen: set[tuple[str, int, int, str]] = set()
    sites = []
    for unit in UNITS:
        sites += [site for site in Unit(ROOT / "cpp" / unit, seen).sites if only in site.file]
    print(f"{len(sites)} sites in {len({site.file for site in sites})} files")
    sites = draw(sites, count + count // 6, seed)  # some of them the compiler refuses
    mutants = numbered(sites)
    tree = work / "source"
    for name in ("cpp", "python"):
        shutil.rmtree(tree / name, ignore_errors=True)
    shutil.copytree(ROOT / "cpp", tree / "cpp")
    shutil.copy(ROOT / "CMakeLists.txt", tree)
    (tree / "python" / "stepsize").mkdir(parents=True)
    shutil.copy(ROOT / "python" / "stepsize" / "_core.pyi", tree / "python" / "stepsize")
    (tree / "cpp" / "mutant.hpp").write_text(HEADER)
    left = dict(zip((mutant.number for mutant in mutants), zip(mutants, sites, strict=True),
                    strict=True))  # fmt: skip
    while True:
        for file in sorted({site.file for site in sites}):
            chosen = [pair for pair in left.values() if pair[1].file == file]
            (tree / file).write_bytes(schema((ROOT / file).read_bytes(), chosen))
        bad: set[int] = set()
        for unit in UNITS:
            words = ["g++", "-std=c++17", "-fsyntax-only", "-fopenmp", "-w", f"-I{tree / 'cpp'}",
                     "-DSTEPSIZE_TARGET_NAME=baseline", "-DSTEPSIZE_HAS_baseline",
                     "-fdiagnostics-show-caret", "-fmax-errors=0",
                     "-include", str(tree / "cpp" / "mutant.hpp"),
                     str(tree / "cpp" / unit)]  # fmt: skip
            done = subprocess.run(words, capture_output=True, text=True, check=False)
            if done.returncode:
                named = refused(done.stderr, tree, set(left) - bad)
                if not named:
                    raise SystemExit(done.stderr[-4000:])
                bad |= named
        if not bad:
            break
        for number in bad:
            del left[number]
        print(f"{len(left)} are left")
    print(f"{len(mutants) - len(left)} of {len(mutants)} mutants are none that the compiler takes")
    if os.environ.get("STEPSIZE_MUTANTS_ONLY_WRITTEN"):
        raise SystemExit
    library = build(work, tree, len(mutants))
    shutil.copy(library, package / "stepsize")
    kept = [mutant for mutant, _ in left.values()]
    return kept, {
        "at_import": {},
        "numbers": len(mutants),
        "library": str(package / "stepsize" / library.name),
    }


def build(work: Path, tree: Path, count: int) -> Path:
    with open(tree / "cpp" / "core" / "limits.cpp", "a") as file:
        file.write(f'\nextern "C" {{\nint stepsize_mutant = -1;\n'
                   f"unsigned char stepsize_mutants_met[{count}];\n}}\n")  # fmt: skip
    pybind = subprocess.check_output([sys.executable, "-m", "pybind11", "--cmakedir"], text=True)
    folder = tree / "build" / "dev"  # from the sources as any build, for a compiler cache
    shutil.rmtree(folder, ignore_errors=True)
    asking = f"SHELL:-O1 -w -include {tree / 'cpp' / 'mutant.hpp'}"
    name = "$<TARGET_PROPERTY:NAME>"
    where = f"$<OR:$<STREQUAL:{name},kernels_baseline>,$<STREQUAL:{name},_core>>"
    launcher = shutil.which("ccache")
    commands = [
        ["cmake", "-S", tree, "-B", folder, "-G", "Ninja", "-DSTEPSIZE_BASELINE_ONLY=ON",
         f"-DSTEPSIZE_OPTIMIZATION=$<{where}:{asking}>", "-DCMAKE_BUILD_TYPE=Release",
         f"-Dpybind11_DIR={pybind.strip()}", f"-DPython_EXECUTABLE={sys.executable}",
         *([f"-DCMAKE_CXX_COMPILER_LAUNCHER={launcher}"] if launcher else [])],
        ["cmake", "--build", folder, "--parallel", "1"],
    ]  # fmt: skip
    with open(work / "build.log", "w") as log:
        for command in commands:
            if subprocess.run(command, stdout=log, stderr=log, check=False).returncode:
                raise SystemExit((work / "build.log").read_text()[-4000:])
    return next(folder.glob("_core*.so"))
