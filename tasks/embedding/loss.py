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
    """Targets of N photos.

    Attributes:
        identity_ids: int64 (N,), indices into the training identities.
    """

    identity_ids: Tensor


def identity_targets(examples: Sequence[Example[Face]], *, id_of: Mapping[str, int]) -> IdentityTargets:
    """The targets of a batch, by name -> identity id."""
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
    """Softmax cross-entropy over the training identities with an additive margin.

        total = mean of - log softmax(s z)_y,   z_k = cos(embedding, prototype_k) for k other than y,
        z_y = cos - m (CosFace),  cos(angle + m) (ArcFace; cos - m sin m where angle + m is over pi)

    Args:
        outputs: embeddings of N photos, and the class prototypes.
        targets: identity ids y (N,), indices into the prototypes.
        kind: type of margin.
        margin: m.
        scale: s.

    Returns:
        The scalar `total`.

    Source: Wang et al. 2018 (arXiv:1801.09414), equation 4; Deng et al. 2019 (arXiv:1801.07698), equation 3.
    """
    identity_ids = targets.identity_ids
    cosines = outputs.embeddings @ functional.normalize(outputs.prototypes).T
    positives = cosines.gather(1, identity_ids[:, None])
    if kind == "cosface":
        penalised = positives - margin
    else:
        clamped = positives.clamp(-1 + 1e-6, 1 - 1e-6)  # acos has an infinite gradient at -1 and 1
        angle = clamped.acos()
        penalised = torch.where(angle + margin <= math.pi, (angle + margin).cos(), clamped - margin * math.sin(margin))
    logits = scale * cosines.scatter(1, identity_ids[:, None], penalised)
    return {"total": functional.cross_entropy(logits, identity_ids)}


def triplet_loss(
    embeddings: Tensor, targets: IdentityTargets, *, margin: float, world: World = SINGLE_PROCESS
) -> dict[str, Tensor]:
    """The mean triplet hinge loss over all anchor-positive pairs, each with a semi-hard negative.

        total = mean over (a, p) of max(0, |a - p|^2 - |a - n|^2 + m)

    n is the nearest negative that is further from a than p is, or the furthest negative if there is none.

    Args:
        embeddings: (N, D), of length 1.
        targets: identity ids (N,).
        margin: m.
        world: the processes whose batches are joined.

    Returns:
        The scalar `total`; zero without positive pairs or without negatives.

    Source: Schroff et al. 2015 (arXiv:1503.03832), sections 3.1 and 3.2.
    """
    embeddings, identity_ids = world.all_rows(embeddings), world.all_rows(targets.identity_ids)
    distances = 2 - 2 * embeddings @ embeddings.T
    same = identity_ids[:, None] == identity_ids
    # Each anchor's distances to negatives, ascending: the semi-hard one is the first beyond the positive.
    negatives = distances.masked_fill(same, math.inf).sort(1).values
    index = torch.searchsorted(negatives.detach(), distances.detach().contiguous(), right=True)
    semi_hard = negatives.gather(1, index.clamp(max=len(same) - 1))
    furthest = distances.masked_fill(same, -math.inf).amax(1, keepdim=True)
    to_negative = torch.where(semi_hard.isfinite(), semi_hard, furthest)
    # Masks instead of boolean indexing, which would synchronise with the GPU.
    diagonal = torch.eye(len(same), dtype=torch.bool, device=same.device)
    pairs = same & ~diagonal & ~same.all(1, keepdim=True)
    hinges = functional.relu(distances - to_negative + margin).masked_fill(~pairs, 0)
    return {"total": hinges.sum() / pairs.sum().clamp(min=1)}
