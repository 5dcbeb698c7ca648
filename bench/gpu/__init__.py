"""The parts of bench/gpu.sh."""
