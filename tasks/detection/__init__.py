"""Objects and their boxes: SSD on MobileNet, trained and scored on data in COCO's format."""
