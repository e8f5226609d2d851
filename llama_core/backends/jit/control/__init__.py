"""In which order, by which thread: control code that Numba compiles."""
