"""Distillation losses by the formulas of their papers; each is a scalar for N examples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from tasks.common.runtime.distributed import SINGLE_PROCESS, World

TARGET_WEIGHT, NON_TARGET_WEIGHT = 1.0, 8.0  # DKD's alpha and beta, as in most experiments of the paper
BACKGROUND_WEIGHT = 1.5
EPS = 1e-8
MASKED_LOGIT = -1e9


def embedding_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared distance of embeddings: mean of |student - teacher|^2.

    Args:
        student: (N, D).
        teacher: (N, D).

    Source: Howard et al. 2017, section 4.7: "minimizing the squared differences of the output".
    """
    return (student - teacher).square().sum(1).mean()


def kd_loss(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)).

    Args:
        student: logits (N, K).
        teacher: logits (N, K).
        temperature: T.

    Source: Hinton et al. 2015 (arXiv:1503.02531), section 2.
    """
    return temperature**2 * _kl((teacher / temperature).log_softmax(1), (student / temperature).log_softmax(1))


def dkd_loss(student: Tensor, teacher: Tensor, class_ids: Tensor, *, temperature: float) -> Tensor:
    """KD split into a target-class and a non-target-class term with separate weights.

        T^2 (alpha KL(b_teacher || b_student) + beta KL(q_teacher || q_student))

    with b the probabilities of the target class and of all others together, q the softmax over the others;
    alpha = 1, beta = 8.

    Args:
        student: logits (N, K).
        teacher: logits (N, K).
        class_ids: (N,), the target classes.
        temperature: T.

    Source: Zhao et al. 2022 (arXiv:2203.08679), "Decoupled Knowledge Distillation".
    """
    is_target = functional.one_hot(class_ids, student.shape[1]).bool()
    binary, non_target = [], []
    for logits in (teacher / temperature, student / temperature):
        log_p = logits.log_softmax(1)
        rest = log_p.masked_fill(is_target, -torch.inf).logsumexp(1)
        binary.append(torch.stack([log_p.gather(1, class_ids[:, None])[:, 0], rest], 1))
        non_target.append(logits.masked_fill(is_target, MASKED_LOGIT).log_softmax(1))
    return temperature**2 * (TARGET_WEIGHT * _kl(*binary) + NON_TARGET_WEIGHT * _kl(*non_target))


def dist_loss(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """One minus the correlation of probabilities, within each image and within each class.

        T^2 (mean over images of 1 - r(p_student, p_teacher) + mean over classes of the same on columns)

    with r Pearson's correlation: the student matches a stronger teacher's relations, not its exact probabilities.

    Args:
        student: logits (N, K).
        teacher: logits (N, K).
        temperature: T.

    Source: Huang et al. 2022 (arXiv:2205.10536), "Knowledge Distillation from A Stronger Teacher".
    """
    p_student, p_teacher = (student / temperature).softmax(1), (teacher / temperature).softmax(1)
    within_images = 1 - _correlation(p_student, p_teacher).mean()
    within_classes = 1 - _correlation(p_student.T, p_teacher.T).mean()
    return temperature**2 * (within_images + within_classes)


def pixel_loss(
    student: Tensor, teacher: Tensor, weights: Tensor, world: World = SINGLE_PROCESS, *, temperature: float
) -> Tensor:
    """KD at each pixel, averaged over the pixels of all images.

        T^2 sum of w KL(softmax(teacher / T) || softmax(student / T)) / sum of w

    Args:
        student: logits (N, K, h, w).
        teacher: logits (N, K, h, w).
        weights: (N, h, w), w in [0, 1], the fraction of a pixel that counts.
        world: the processes that share the batch.
        temperature: T.

    Source: Liu et al. 2019 (arXiv:1903.04197), "pixel-wise distillation", there with T = 1.
    """
    log_p, log_q = ((logits / temperature).log_softmax(1) for logits in (teacher, student))
    divergences = functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)
    return temperature**2 * (weights * divergences).sum() / world.normalizer(weights.sum())


def box_loss(
    class_logits: Tensor, box_deltas: Tensor, teacher: Tensor, world: World = SINGLE_PROCESS
) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy with the teacher's scores, and smooth L1 of box deltas weighted by its objectness.

        classes = sum over anchors of - sum_k w_k p_k log q_k / F,   w = 1.5 for the background, else 1
        boxes   = sum over anchors of f smooth L1(student's deltas, teacher's) / F

    with p, q the teacher's and the student's probabilities, f = 1 - p of the background, and F the sum of f over all
    anchors of all images, at least 1. Chen et al. bound the box loss by the labels; this one needs none.

    Args:
        class_logits: (N, A, K + 1), background first.
        box_deltas: (N, A, 4).
        teacher: (N, A, K + 5), logits and deltas side by side.
        world: the processes that share the batch.

    Returns:
        The class and the box loss, two scalars.

    Source: Chen et al. 2017, "Learning efficient object detection models with knowledge distillation", for the weights.
    """
    probabilities, deltas = teacher[..., :-4].softmax(-1), teacher[..., -4:]
    objectness = 1 - probabilities[..., 0]
    num_objects = world.normalizer(objectness.sum())
    weights = torch.ones_like(probabilities[0, 0])
    weights[0] = BACKGROUND_WEIGHT
    classes = -(weights * probabilities * class_logits.log_softmax(-1)).sum()
    distances = functional.smooth_l1_loss(box_deltas, deltas, reduction="none").sum(-1)
    return classes / num_objects, (objectness * distances).sum() / num_objects


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of two feature maps, average-pooled to the smaller one's size.

    Args:
        student: (N, C, H, W), after the adapter.
        teacher: (N, C, H', W').

    Source: Romero et al. 2015 (arXiv:1412.6550), equation 3.
    """
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    small_student, small_teacher = (functional.adaptive_avg_pool2d(maps, size) for maps in (student, teacher))
    return functional.mse_loss(small_student, small_teacher) / 2


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Mean over rows of KL(p || q)."""
    return functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row."""
    return functional.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True), eps=EPS)
