"""The public transforms: each pushes its interpreter, runs the user's function on its handles, and unwraps."""
