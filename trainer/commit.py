"""Commitments to tensors: their trees, hashed by all processors, and one call at a time beside what else is going on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType

from bisection.boundary import Array, state_tensors
from bisection.merkle import Tree
from bisection.nodes import Input
from bisection.program import Program
from trainer.files import threads_here
from trainer.kernels.hashing import roots_of
from trainer.store import byte_view

__all__ = ["Beside", "FixedTensors", "StateTrees", "tensor_tree"]


def tensor_tree(arrays: Sequence[Array]) -> Tree:
    """The tree over the roots of some tensors."""
    return Tree(roots_of([byte_view(array) for array in arrays], threads_here()))


class FixedTensors:
    """Tensors that never change, such as a job's data, and their roots: whoever shows one of them again need not hash it again."""

    def __init__(self, arrays: Sequence[Array], roots: Sequence[bytes]) -> None:
        self._arrays = list(arrays)  # kept, so that nothing else comes to lie where they are
        self._roots = {_place(array): root for array, root in zip(arrays, roots, strict=True)}
        self.tree = Tree(roots)

    def tree_with(self, arrays: Sequence[Array]) -> Tree:
        """As ``tensor_tree`` for arrays among which these may be."""
        known = [self._roots.get(_place(array)) for array in arrays]
        unknown = [array for array, root in zip(arrays, known, strict=True) if root is None]
        computed = iter(tensor_tree(unknown).levels[0])
        return Tree([next(computed) if root is None else root for root in known])


def _place(array: Array) -> tuple[int, int, bool]:
    return array.ctypes.data, array.nbytes, array.flags.c_contiguous


class StateTrees:
    """The trees over the states of ``program``."""

    def __init__(self, program: Program) -> None:
        self._names = [spec.name for spec in program.state]
        self._carried = _carried_over(program)

    def of(self, state: Mapping[str, Array]) -> Tree:
        """The tree over ``state``."""
        return tensor_tree([state[name] for name in self._names])

    def after(self, before: Tree, state: Mapping[str, Array]) -> Tree:
        """The tree over the state that the program's step makes of the one that ``before`` is of.

        A tensor that the program only carries over keeps its root; the others are hashed.
        """
        hashed = [i for i in range(len(self._names)) if i not in self._carried]
        roots = dict(zip(hashed, tensor_tree([state[self._names[i]] for i in hashed]).levels[0], strict=True))
        kept = {after: before.levels[0][number] for after, number in self._carried.items()}
        return Tree([{**roots, **kept}[i] for i in range(len(self._names))])


def _carried_over(program: Program) -> dict[int, int]:
    """The state tensors whose next value is, by the program, a state tensor as it was: {next: before}."""
    carried = {}
    for after, tensor in enumerate(state_tensors(program)):
        node = program.nodes[program.producer[tensor]]
        if isinstance(node, Input) and node.source == "state":
            carried[after] = node.index
    return carried


class Beside:
    """Makes calls on a thread of its own, one after the other, while its owner goes on: to the next call, and no further.

    As a context it ends with the last call. What a call raises comes out of the next ``do`` or ``finish``, and again at the end.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "beside")
        self._call: Future[None] | None = None

    def do(self, call: Callable[[], None]) -> None:
        """Start ``call`` as soon as the one before it has ended. Raises what that one has raised."""
        self.finish()
        self._call = self._pool.submit(call)

    def finish(self) -> None:
        """Wait for the call under way. Raises what it raises."""
        if self._call is not None:
            self._call.result()

    def wait(self) -> None:
        """Wait for the call under way, however it ends."""
        if self._call is not None:
            wait([self._call])

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown()
        self.finish()
