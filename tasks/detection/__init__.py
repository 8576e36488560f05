"""Object detection: SSD and Faster R-CNN on MobileNet, trained and evaluated on data in COCO's format."""
