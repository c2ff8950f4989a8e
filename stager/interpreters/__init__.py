"""The interpreter stack and its levels: stage, vmap, grad, jvp, functionalize. One interpreter per file."""
