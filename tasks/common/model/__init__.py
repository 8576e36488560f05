"""Parts of networks that several tasks have: the linear head, a similarity index, and the wrapper for layers that
only training needs.
"""
