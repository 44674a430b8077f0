# SPDX-License-Identifier: Apache-2.0
"""What maps responses to predictions: for each alpha one matrix per left-out fold and one for the test rows.

Both forms factorise the full training problem, never a fold. With ``G = (K + alpha I)^-1`` of all rows, the prediction
of rows S by a model that was trained on the other rows T is ``-(G_SS)^-1 G_ST Y_T`` (Schur complement), and the test
rows are predicted by ``K_test G``. In the primal form, with ``H = X (X'X + alpha I)^-1 X'``, it is
``(I - H_SS)^-1 X_S (X'X + alpha I)^-1 X_T'Y_T``. All factorisations are float64; the matrices are rounded to float32
for the products with the responses, where they are bounded by one and rounding stays at 1e-7.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch

from voxelboard.benchmark.encoding.designs import Problem
from voxelboard.benchmark.errors import InvalidNumbers

Precision = Literal["float64", "float32"]

# trace(K) / alpha bounds the condition number. Beyond these a Cholesky factor may exist but mean nothing.
_CONDITION_LIMIT = {torch.float64: 1e12, torch.float32: 1e5}


@dataclass
class AlphaOperators:
    """The matrices of one alpha, float32. ``folds[f]``: (n_fold_f, n_inputs_f); ``test``: (n_test, n_inputs)."""

    folds: list[torch.Tensor]
    test: torch.Tensor
    notes: list[str] = field(default_factory=list)


class Operators(Protocol):
    """One factorised problem whose training rows are sorted so that each fold is one slice."""

    slices: list[slice]

    def build(self, alpha: float) -> AlphaOperators:
        """The matrices of one alpha."""
        ...

    def weights_operator(self, alpha: float) -> torch.Tensor:
        """(n_weights, n_inputs) float64: its product with the full inputs are the weights of this alpha."""
        ...

    def inputs(self, block: torch.Tensor) -> list[torch.Tensor]:
        """From responses (n_train, width): the right-hand factor of each fold, then that of all rows."""
        ...

    def predict_fold(self, operator: torch.Tensor, inputs: list[torch.Tensor], fold: int) -> torch.Tensor:
        """(n_fold, width) prediction of the left-out fold."""
        ...


def make_operators(
    problem: Problem,
    order: torch.Tensor,
    slices: list[slice],
    alphas: Sequence[float],
    *,
    centred: bool,
    precision: Precision,
) -> Operators:
    """Factorise ``problem``. ``order`` (n_train,) sorts the rows by fold; ``centred`` makes each fold's and the test
    predictions have mean zero, as a correlation needs.
    """
    if problem.form == "dual":
        return DualOperators(problem, order, slices, centred=centred, precision=precision)
    return PrimalOperators(problem, order, slices, min(alphas), centred=centred)


def _is_sorted(order: torch.Tensor) -> bool:
    return bool((order[1:] > order[:-1]).all())


def minus_mean(operator: torch.Tensor, centred: bool) -> torch.Tensor:
    """``operator`` with predictions of mean zero, where a correlation needs them."""
    return operator - operator.mean(0, keepdim=True) if centred else operator


def finite_operator(operator: torch.Tensor, alpha: float) -> torch.Tensor:
    """``operator`` as float32; raises InvalidNumbers unless it is finite."""
    if not bool(torch.isfinite(operator).all()):
        raise InvalidNumbers(f"the ridge solution at alpha {alpha:g} is not finite; the design's scale may overflow")
    return operator.float()


def eigen_inverse(gram: torch.Tensor, alpha: float) -> torch.Tensor:
    """(gram + alpha I)^-1 on the range of ``gram``, zero on its numerical null space: the minimum-norm solution."""
    values, vectors = torch.linalg.eigh(gram.double())
    null = values <= values[-1].clamp_min(0) * len(values) * torch.finfo(torch.float64).eps
    inverse = torch.where(null, torch.zeros_like(values), 1 / (values.clamp_min(0) + alpha))
    result: torch.Tensor = (vectors * inverse) @ vectors.T
    return result


def invert_shifted(gram: torch.Tensor, alpha: float) -> torch.Tensor | None:
    """(gram + alpha I)^-1 by Cholesky in the dtype of ``gram``, or None where that would mean nothing."""
    if float(torch.diagonal(gram).sum()) / alpha > _CONDITION_LIMIT[gram.dtype]:
        return None
    shifted = gram.clone()
    shifted.diagonal().add_(alpha)
    factor, info = torch.linalg.cholesky_ex(shifted)
    return torch.cholesky_inverse(factor) if int(info) == 0 else None


def invert_in_steps(grams: dict[torch.dtype, torch.Tensor], alpha: float) -> tuple[torch.Tensor | None, list[str]]:
    """:func:`invert_shifted` in the first of the dtypes where it means something, and a note for each where not."""
    notes: list[str] = []
    for dtype, gram in grams.items():
        inverse = invert_shifted(gram, alpha)
        if inverse is not None:
            return inverse, notes
        notes.append(f"alpha {alpha:g}: no Cholesky inverse in {str(dtype).removeprefix('torch.')}")
    return None, notes


def in_precision(gram: torch.Tensor, precision: Precision) -> dict[torch.dtype, torch.Tensor]:
    """A float64 Gram in the dtypes in which its inverse is to be tried, in that order."""
    both = {torch.float64: gram}
    return {torch.float32: gram.float(), **both} if precision == "float32" else both


def _solved(factor: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Minus the solution of the Cholesky ``factor`` for ``others``, many more columns than rows."""
    if factor.dtype is torch.float32:  # a product takes half the time of two triangular solves, at the same error
        return -torch.cholesky_inverse(factor) @ others
    return -torch.cholesky_solve(others, factor)


def leave_rows_out(
    inverse: torch.Tensor | None, gram: torch.Tensor, alpha: float, rows: torch.Tensor, kept: torch.Tensor
) -> torch.Tensor:
    """(n_rows, n_kept) float32: the prediction of ``rows`` by a fit on the ``kept`` rows, any two disjoint sets.

    Together they must be all rows. ``inverse`` is that of gram + alpha I, or None: then the kept rows are solved by
    eigenvalues.
    """
    if inverse is not None:
        mine = inverse[rows]
        factor, info = torch.linalg.cholesky_ex(mine[:, rows])
        if int(info) == 0:
            return _solved(factor, mine[:, kept]).float()
    operator = gram[rows][:, kept] @ eigen_inverse(gram[kept][:, kept], alpha)
    return operator.float()


class DualOperators:
    """Gram form: one Cholesky inverse per alpha, then one small solve per fold."""

    def __init__(
        self, problem: Problem, order: torch.Tensor, slices: list[slice], *, centred: bool, precision: Precision
    ) -> None:
        gram, sorted_already = problem.train.double(), _is_sorted(order)
        self.gram = gram if sorted_already else gram[order][:, order]
        self.cross = problem.test.double() if sorted_already else problem.test.double()[:, order]
        self.slices = slices
        self.centred = centred
        self.grams = in_precision(self.gram, precision)

    def build(self, alpha: float) -> AlphaOperators:
        """The matrices of one alpha."""
        inverse, notes = invert_in_steps(self.grams, alpha)
        folds = [] if inverse is None else self._leave_out(inverse)
        if inverse is None or len(folds) < len(self.slices):
            return self._by_eigenvalues(alpha)
        test = minus_mean(self.cross.to(inverse.dtype) @ inverse, self.centred)
        return AlphaOperators([finite_operator(fold, alpha) for fold in folds], finite_operator(test, alpha), notes)

    def weights_operator(self, alpha: float) -> torch.Tensor:
        """As :meth:`Operators.weights_operator`."""
        inverse, _ = invert_in_steps(self.grams, alpha)
        return eigen_inverse(self.gram, alpha) if inverse is None else inverse

    def inputs(self, block: torch.Tensor) -> list[torch.Tensor]:
        """As :meth:`Operators.inputs`."""
        return [block] * (len(self.slices) + 1)

    def predict_fold(self, operator: torch.Tensor, inputs: list[torch.Tensor], fold: int) -> torch.Tensor:
        """As :meth:`Operators.predict_fold`."""
        block, rows = inputs[fold], self.slices[fold]
        before, after = operator[:, : rows.start], operator[:, rows.start :]
        if rows.start == 0:
            return after @ block[rows.stop :]
        prediction = before @ block[: rows.start]
        return prediction.addmm_(after, block[rows.stop :]) if after.shape[1] else prediction

    def _leave_out(self, inverse: torch.Tensor) -> list[torch.Tensor]:
        """-(G_SS)^-1 G_ST of each fold; shorter than the folds when a factor does not exist."""
        folds = []
        for rows in self.slices:
            mine = inverse[rows]
            factor, info = torch.linalg.cholesky_ex(mine[:, rows])
            if int(info) != 0:
                break
            others = torch.cat([mine[:, : rows.start], mine[:, rows.stop :]], dim=1)
            folds.append(minus_mean(_solved(factor, others), self.centred))
        return folds

    def _by_eigenvalues(self, alpha: float) -> AlphaOperators:
        folds = []
        for rows in self.slices:
            kept = torch.ones(len(self.gram), dtype=torch.bool, device=self.gram.device)
            kept[rows] = False
            operator = self.gram[rows][:, kept] @ eigen_inverse(self.gram[kept][:, kept], alpha)
            folds.append(finite_operator(minus_mean(operator, self.centred), alpha))
        test = minus_mean(self.cross @ eigen_inverse(self.gram, alpha), self.centred)
        return AlphaOperators(folds, finite_operator(test, alpha), [f"alpha {alpha:g}: solved by eigenvalues"])


class PrimalOperators:
    """Design form, for fewer columns than rows: one eigendecomposition of X'X serves all alphas and folds.

    The inputs are products of whitened rows, ``(L + alpha_min)^-1/2 V'X'Y``: in raw units their float32 rounding would
    be amplified by sqrt(largest eigenvalue / alpha), here it is not.
    """

    def __init__(
        self, problem: Problem, order: torch.Tensor, slices: list[slice], smallest: float, *, centred: bool
    ) -> None:
        design = problem.train.double() if _is_sorted(order) else problem.train.double()[order]
        values, vectors = torch.linalg.eigh(design.T @ design)
        values = values.clamp_min(0)
        largest = float(values[-1]) if len(values) else 0.0
        rank = values > largest * len(values) * torch.finfo(torch.float64).eps
        self.values, self.vectors = values[rank], vectors[:, rank]
        self.rotated = design @ self.vectors
        self.test = problem.test.double() @ self.vectors
        self.whitening = (self.values + smallest).rsqrt()
        self.whitened = (self.rotated * self.whitening).float()
        self.slices = slices
        self.centred = centred
        self.trace = float(values.sum())

    def build(self, alpha: float) -> AlphaOperators:
        """The matrices of one alpha."""
        inverse = 1 / (self.values + alpha)
        root, notes, folds = inverse.sqrt(), list[str](), []
        for rows in self.slices:
            operator = None
            if self.trace / alpha <= _CONDITION_LIMIT[torch.float64]:
                operator = _leave_out_primal(self.rotated[rows] * root)
            if operator is None:
                notes = [f"alpha {alpha:g}: solved by eigenvalues"]
                operator = self._by_eigenvalues(rows, alpha)
            else:
                operator = operator * root
            folds.append(finite_operator(minus_mean(operator / self.whitening, self.centred), alpha))
        test = minus_mean(self.test * (inverse / self.whitening), self.centred)
        return AlphaOperators(folds, finite_operator(test, alpha), notes)

    def weights_operator(self, alpha: float) -> torch.Tensor:
        """As :meth:`Operators.weights_operator`."""
        operator: torch.Tensor = self.vectors * (1 / (self.values + alpha) / self.whitening)
        return operator

    def inputs(self, block: torch.Tensor) -> list[torch.Tensor]:
        """As :meth:`Operators.inputs`."""
        parts = [self.whitened[rows].T @ block[rows] for rows in self.slices]
        total = torch.stack(parts).sum(0)
        return [*(total - part for part in parts), total]

    def predict_fold(self, operator: torch.Tensor, inputs: list[torch.Tensor], fold: int) -> torch.Tensor:
        """As :meth:`Operators.predict_fold`."""
        return operator @ inputs[fold]

    def _by_eigenvalues(self, rows: slice, alpha: float) -> torch.Tensor:
        mine = self.rotated[rows]
        operator: torch.Tensor = mine @ eigen_inverse(torch.diag(self.values) - mine.T @ mine, alpha)
        return operator


def _leave_out_primal(mine: torch.Tensor) -> torch.Tensor | None:
    """(I - M M')^-1 M for M (n_fold, n_columns), by the smaller of its two Gram matrices; None without a factor."""
    wide = mine.shape[0] <= mine.shape[1]
    product = -(mine @ mine.T) if wide else -(mine.T @ mine)
    product.diagonal().add_(1)
    factor, info = torch.linalg.cholesky_ex(product)
    if int(info) != 0:
        return None
    return torch.cholesky_solve(mine, factor) if wide else torch.cholesky_solve(mine.T, factor).T
