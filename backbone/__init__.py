"""MobileNets: networks, names, published weights, cost. Independent of tasks and data sets."""
