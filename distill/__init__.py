"""Distillation of large networks into MobileNets."""
