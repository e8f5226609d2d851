"""What is computed: kernels written as LLVM IR."""
