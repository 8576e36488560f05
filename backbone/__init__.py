"""MobileNets and what belongs to them: names, published weights, cost. Knows no task and no data set."""
