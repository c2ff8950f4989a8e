"""NumPy on traced arrays: the functions, methods and operators that user code calls, composed from the op set."""
