"""The public transforms: each pushes its interpreter, runs the user's function on handles of that level, and unwraps."""
