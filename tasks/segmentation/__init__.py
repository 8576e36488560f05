"""Semantic segmentation: DeepLabV3+ and Lite R-ASPP on MobileNet."""
