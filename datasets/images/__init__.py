"""Image files: headers, decoding of any format and depth, and the functions that read and write them."""
