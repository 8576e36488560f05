"""Images with a class for each pixel: mask files in Pascal VOC's and other layouts, and COCO's polygons."""
