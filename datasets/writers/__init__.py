"""Writers of data sets: boxes as COCO, YOLO and Pascal VOC, and any images as WebDataset shards."""
