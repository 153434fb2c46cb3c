"""Which leaves are hidden matrices, and which embeddings, heads and vectors."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from stepsize.arrays import Nest, Structure
from stepsize.optimizers.globs import few, matching
from stepsize.optimizers.groups import GroupSpec, group, ungroup
from stepsize.validation import choice, counted, whole

__all__ = ["MatrixGroups", "matrix_groups"]

KINDS = ("input", "hidden", "output", "vector")

# Words of the segments of a path; a segment is read at "_", "-", "." and between "aB".
INPUT_STEMS = ("embed",)
INPUT_WORDS = frozenset({"emb", "wte", "wpe", "stem"})
INPUT_SEGMENTS = frozenset({"input", "inputs"})
OUTPUT_STEMS = ("unembed", "classif")
OUTPUT_WORDS = frozenset({"head", "logits", "output", "score"})
OUTPUT_SEGMENTS = frozenset({"out"})
VECTOR_SEGMENTS = frozenset({"b", "bias", "scale", "gain", "gamma", "beta"})
# An axis of so many entries, so many times as long as the other one, counts tokens.
VOCABULARY, LONGER = 4096, 8


class Decision(NamedTuple):
    """What a leaf is, why, and whether there is no doubt."""

    kind: str
    why: str
    sure: bool = True


class MatrixGroups(Mapping[str, str]):
    """The kind of every leaf by path, as `matrix_groups` found it; prints what it decided and why.

    Attributes:
        why: The reason by path.
        unsure: The paths where names and shapes leave a doubt.
    """

    def __init__(self, decisions: Mapping[str, Decision], shapes: Mapping[str, Any]) -> None:
        self._kinds = {path: one.kind for path, one in decisions.items()}
        self._shapes = dict(shapes)
        self.why = {path: one.why for path, one in decisions.items()}
        self.unsure = tuple(path for path, one in decisions.items() if not one.sure)

    def __getitem__(self, path: str) -> str:
        return self._kinds[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)

    def paths(self, *kinds: str) -> tuple[str, ...]:
        """The leaves of these kinds."""
        asked = [choice("MatrixGroups.paths: kind", kind, KINDS) for kind in kinds]
        return tuple(path for path, kind in self.items() if kind in asked)

    def globs(self, *kinds: str) -> tuple[str, ...]:
        """Globs that match the leaves of these kinds and no others, one for each leaf."""
        return tuple(glob.escape(path) for path in self.paths(*kinds))

    def rules(self, hidden: Any, rest: Any) -> dict[str | tuple[str, ...], Any]:
        """The rules of a `Partition`: one for hidden matrices, another for all other leaves.

        Example:
            >>> import numpy as np, stepsize as ss
            >>> params = {"embed": np.ones((9, 4)), "block": np.ones((4, 4)), "b": np.ones(4)}
            >>> ss.matrix_groups(params).rules(ss.Muon, ss.AdamW)["*"]
            <class 'stepsize.optimizers.rules.adam.AdamW'>
        """
        matrices = self.globs("hidden")
        found: dict[str | tuple[str, ...], Any] = {matrices: hidden} if matrices else {}
        return found if len(matrices) == len(self) else {**found, "*": rest}

    def groups(self, **overrides: Mapping[str, Any]) -> list[GroupSpec]:
        """The ``groups`` of an optimizer: for some kinds, the hyperparameters that differ there.

        Example:
            >>> import numpy as np, stepsize as ss
            >>> params = {"embed": np.ones((9, 4)), "block": np.ones((4, 4)), "b": np.ones(4)}
            >>> adamw = {"use_muon": False, "lr": 1e-3}
            >>> groups = ss.matrix_groups(params).groups(input=adamw, output=adamw)
            >>> ss.Muon(params, lr=0.02, groups=groups).lr
            (0.02, 0.001)
        """
        made = []
        for kind, values in overrides.items():
            globs = self.globs(choice("MatrixGroups.groups: kind", kind, KINDS))
            made += [group(globs, **values)] if globs else []
        return made

    def __str__(self) -> str:
        rows = [
            (path, "x".join(map(str, self._shapes[path])) or "number", self[path], self.why[path])
            for path in self
        ]
        widths = [max((len(row[k]) for row in rows), default=0) for k in range(3)]
        doubt = "  (unsure)"
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False))
            + f"  {row[3]}{doubt if row[0] in self.unsure else ''}"
            for row in rows
        ]
        return "\n".join([*lines, self._summary()])

    def _summary(self) -> str:
        counts = [f"{sum(k == kind for k in self.values())} {kind}" for kind in KINDS]
        words = f"{counted(len(self), 'array')}: {', '.join(counts)}"
        if not self.unsure:
            return words
        return f"{words}; unsure of {few(self.unsure)}: say it by kinds={{{self.unsure[0]!r}: ...}}"

    def __repr__(self) -> str:
        return f"<MatrixGroups of {self._summary()}>"


def matrix_groups(
    params: Nest, kinds: Mapping[str, str] | None = None, *, fan_in: int = 0
) -> MatrixGroups:
    """Tell hidden matrices from embeddings, heads and vectors, for rules such as Muon.

    Matrix rules are for the hidden layers; embeddings and the first layer ("input"), heads and the
    last layer ("output"), and biases, gains and numbers ("vector") train better by a rule like
    AdamW. Each leaf is decided by the first of these that tells: ``kinds``; fewer than two axes
    longer than 1; the name of the leaf (a bias); a name like ``embed``, ``wte``, ``lm_head``,
    ``classifier`` outside of numbered blocks; an axis as long as a vocabulary; the one matrix whose
    inputs no other gives, or whose outputs no other takes. What is left is hidden, kernels of
    convolutions too. What only a shape tells, and a name inside a block, is unsure.

    Args:
        params: A nest of arrays.
        kinds: "input", "hidden", "output" or "vector" by glob of leaf path; the first that matches.
        fan_in: The axis of a matrix that counts its inputs, 0 for ``x @ w``, 1 as in torch; of a
            kernel of a convolution, the last but one, or 1 as in torch.

    Returns:
        A `MatrixGroups`: the kind by path. Print it; ``rules(ss.Muon, ss.AdamW)`` is for a
        `Partition`, ``groups(input={...})`` for one optimizer.

    Raises:
        ValueError, TypeError: for a glob that matches no leaf, or a kind that is none.

    Source: which leaves are for Muon, Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon/, "Empirical considerations".

    Example:
        >>> import numpy as np, stepsize as ss
        >>> shapes = {"wte": (50, 8), "h/0/w": (8, 8), "h/0/b": (8,), "lm_head": (8, 50)}
        >>> params = {name: np.zeros(shape) for name, shape in shapes.items()}
        >>> print(ss.matrix_groups(params))
        h/0/b    8     vector  one axis
        h/0/w    8x8   hidden  a matrix
        lm_head  8x50  output  named lm_head
        wte      50x8  input   named wte
        4 arrays: 1 input, 1 hidden, 1 output, 1 vector
    """
    axis = whole("matrix_groups: fan_in", fan_in, 0, 1)
    structure = Structure(ungroup(params))
    shapes = {
        path: tuple(np.shape(leaf))
        for path, leaf in zip(structure.paths, structure.leaves, strict=True)
    }
    decided = _given(kinds, tuple(shapes))
    for path, shape in shapes.items():
        found = decided.get(path) or _of_vector(path, shape) or _of_name(path) or _of_size(shape)
        if found is not None:
            decided[path] = found
    left = {path: shape for path, shape in shapes.items() if path not in decided}
    decided |= _of_ends(left, {one.kind for one in decided.values()}, axis)
    return MatrixGroups({path: decided[path] for path in shapes}, shapes)


def _given(kinds: Mapping[str, str] | None, paths: Sequence[str]) -> dict[str, Decision]:
    """What the caller says."""
    if kinds is not None and not isinstance(kinds, Mapping):
        raise TypeError(
            "matrix_groups: kinds must be a dict of globs and kinds, such as {'pos/*': 'input'}, "
            f"got {kinds!r:.80}"
        )
    found: dict[str, Decision] = {}
    for pattern, kind in (kinds or {}).items():
        checked = choice(f"matrix_groups: kinds[{pattern!r}]", kind, KINDS)
        matched = matching(paths, pattern)
        if not matched:
            raise ValueError(
                f"matrix_groups: {pattern!r} of kinds matches no leaf; the leaves are {few(paths)}"
            )
        for i in matched:
            found.setdefault(paths[i], Decision(checked, f"given by {pattern!r}"))
    return found


def _of_vector(path: str, shape: tuple[int, ...]) -> Decision | None:
    if len(shape) < 2:
        return Decision("vector", "one axis" if shape else "a number")
    if sum(length != 1 for length in shape) < 2:
        return Decision("vector", "one axis longer than 1")
    last = path.rsplit("/", 1)[-1].lower()
    if last in VECTOR_SEGMENTS:
        return Decision("vector", f"named {last}, of several layers", sure=False)
    return None


def _of_name(path: str) -> Decision | None:
    """By a segment of the path: outside of numbered blocks for sure, and else with a doubt."""
    numbered = False
    for segment in path.split("/"):
        parts = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", segment).lower()
        words = [word for word in re.split(r"[_.\-\s]+", parts) if word]
        if _says(words, segment.lower(), OUTPUT_STEMS, OUTPUT_WORDS, OUTPUT_SEGMENTS):
            kind = "output"
        elif _says(words, segment.lower(), INPUT_STEMS, INPUT_WORDS, INPUT_SEGMENTS):
            kind = "input"
        else:
            numbered = numbered or any(char.isdigit() for char in segment)
            continue
        if numbered:
            return Decision("hidden", f"named {segment}, but in a numbered block", sure=False)
        return Decision(kind, f"named {segment}")
    return None


def _says(
    words: Sequence[str],
    segment: str,
    stems: tuple[str, ...],
    known: frozenset[str],
    segments: frozenset[str],
) -> bool:
    named = any(word.startswith(stems) or word.rstrip("0123456789") in known for word in words)
    return named or segment in segments


def _of_size(shape: tuple[int, ...]) -> Decision | None:
    """A table of tokens, whose rows are looked up or whose columns are scores."""
    if len(shape) != 2:
        return None
    short, long = sorted(shape)
    if long < VOCABULARY or long < LONGER * short:
        return None
    kind = "input" if shape[0] == long else "output"
    return Decision(kind, f"an axis of {long:,}, as long as a vocabulary", sure=False)


def _of_ends(
    left: Mapping[str, tuple[int, ...]], found: set[str], fan_in: int
) -> dict[str, Decision]:
    """The first and the last layer of those that no name told, and hidden for the others."""
    inputs = {path: _ends(shape, fan_in)[0] for path, shape in left.items()}
    outputs = {path: _ends(shape, fan_in)[1] for path, shape in left.items()}
    decided: dict[str, Decision] = {}
    if "input" not in found:
        decided |= _lonely(inputs, outputs, "input", "inputs, which no other matrix gives")
    if "output" not in found:
        decided |= _lonely(outputs, inputs, "output", "outputs, which no other matrix takes")
    doubt = len(left) > 0 and not decided and not found & {"input", "output"}
    why = "a matrix; no name or shape tells the first and the last layer" if doubt else "a matrix"
    hidden = {
        path: Decision(
            "hidden", why if len(shape) == 2 else f"a kernel of {len(shape)} axes", not doubt
        )
        for path, shape in left.items()
    }
    return hidden | decided


def _ends(shape: tuple[int, ...], fan_in: int) -> tuple[int, int]:
    """The numbers of inputs and outputs of a matrix or a kernel."""
    return (shape[1], shape[0]) if fan_in else (shape[-2], shape[-1])


def _lonely(
    own: Mapping[str, int], others: Mapping[str, int], kind: str, why: str
) -> dict[str, Decision]:
    """The matrix that nothing is joined to at one end, if there is one."""
    given = set(others.values())
    alone = [path for path, length in own.items() if length not in given]
    if len(alone) != 1:
        return {}
    return {alone[0]: Decision(kind, f"{own[alone[0]]:,} {why}", sure=False)}
