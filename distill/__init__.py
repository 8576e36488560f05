"""What a large network knows, taught to a MobileNet."""
