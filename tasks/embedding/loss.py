"""Margin softmax and semi-hard triplets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from datasets.types import Example, Face
from tasks.common.runtime.distributed import SINGLE_PROCESS, World
from tasks.embedding.model import EmbeddingOutputs


class IdentityTargets(NamedTuple):
    """Who is on N photos.

    Attributes:
        identity_ids: int64 (N,), positions among the training persons.
    """

    identity_ids: Tensor


def identity_targets(examples: Sequence[Example[Face]], *, id_of: Mapping[str, int]) -> IdentityTargets:
    """The persons of a batch, by their positions among the training persons."""
    names = [example.truth.identity for example in examples]
    return IdentityTargets(torch.tensor([id_of[name] for name in names if name is not None], dtype=torch.int64))


def margin_softmax_loss(
    outputs: EmbeddingOutputs,
    targets: IdentityTargets,
    *,
    kind: Literal["cosface", "arcface"],
    margin: float,
    scale: float,
) -> dict[str, Tensor]:
    """Cross-entropy over the training persons, where the right one must win by a margin.

        total = mean of - log softmax(s z)_y,   z_k = cos(embedding, centre_k) for k other than y,
        z_y = cos - m (CosFace),  cos(angle + m) (ArcFace; cos - m sin m where angle + m is over pi)

    Args:
        outputs: of N photos.
        targets: y (N,), positions of the identities among the prototypes.
        kind: of margin.
        margin: m.
        scale: s.

    Returns:
        The scalar `total`.

    Source: Wang et al. 2018 (arXiv:1801.09414), equation 4; Deng et al. 2019 (arXiv:1801.07698), equation 3.
    """
    identity_ids = targets.identity_ids
    cosines = outputs.embeddings @ functional.normalize(outputs.prototypes).T
    own = cosines.gather(1, identity_ids[:, None])
    if kind == "cosface":
        pushed = own - margin
    else:
        inside = own.clamp(-1 + 1e-6, 1 - 1e-6)
        angle = inside.acos()
        pushed = torch.where(angle + margin <= math.pi, (angle + margin).cos(), inside - margin * math.sin(margin))
    logits = scale * cosines.scatter(1, identity_ids[:, None], pushed)
    return {"total": functional.cross_entropy(logits, identity_ids)}


def triplet_loss(
    embeddings: Tensor, targets: IdentityTargets, *, margin: float, world: World = SINGLE_PROCESS
) -> dict[str, Tensor]:
    """The mean hinge over all pairs of photos of one person, each with a semi-hard photo of another.

        total = mean over (a, p) of max(0, |a - p|^2 - |a - n|^2 + m)

    n is the nearest photo of another person that is further from a than p is, and where there is none, the furthest.

    Args:
        embeddings: (N, D), of length 1.
        targets: who is on each photo.
        margin: m.
        world: the processes whose photos are compared with each other.

    Returns:
        The scalar `total`, zero where no person has two photos or there is but one person.

    Source: Schroff et al. 2015 (arXiv:1503.03832), sections 3.1 and 3.2.
    """
    embeddings, identity_ids = world.all_rows(embeddings), world.all_rows(targets.identity_ids)
    distances = 2 - 2 * embeddings @ embeddings.T
    same = identity_ids[:, None] == identity_ids
    # Of each anchor the distances to others, ascending: the first one beyond that to the positive is the semi-hard one.
    to_others = distances.masked_fill(same, math.inf).sort(1).values
    at = torch.searchsorted(to_others.detach(), distances.detach().contiguous(), right=True).clamp(max=len(same) - 1)
    nearest = to_others.gather(1, at)
    furthest = distances.masked_fill(same, -math.inf).amax(1, keepdim=True)
    to_negative = torch.where(nearest.isfinite(), nearest, furthest)
    # Masks in place of selections, whose sizes the CPU would have to wait for.
    itself = torch.eye(len(same), dtype=torch.bool, device=same.device)
    pairs = same & ~itself & ~same.all(1, keepdim=True)
    hinges = functional.relu(distances - to_negative + margin).masked_fill(~pairs, 0)
    return {"total": hinges.sum() / pairs.sum().clamp(min=1)}
