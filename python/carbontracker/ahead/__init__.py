"""What a training will cost: before it has begun, and from its beginning."""
