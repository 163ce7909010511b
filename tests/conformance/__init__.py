"""What every backend of a family guarantees, over each of them."""
