# SPDX-License-Identifier: MIT
"""In place of pyperf, for pyperformance's benchmarks: a fixed number of loops, and what they take of CPU time, in the process itself.

pyperf starts processes, calibrates, and reads a clock on the wall. What is compared here are processes that do the same, in turns, on a machine that others
use: pair.py starts them. LADEWERK_BENCH_LOOPS has the number of loops.
"""
import argparse
import os
import platform
import statistics
import time

WARM_UP, VALUES = 2, 5

perf_counter = time.process_time
python_implementation = platform.python_implementation


class Runner:
    def __init__(self, add_cmdline_args=None, **ignored):
        self.metadata = {}
        self.argparser = argparse.ArgumentParser()
        self.args = None

    def parse_args(self, args=None):
        self.args = self.argparser.parse_args(args)
        return self.args

    def bench_time_func(self, name, time_func, *args, **ignored):
        loops = int(os.environ["LADEWERK_BENCH_LOOPS"])
        values = [time_func(loops, *args) / loops for _ in range(WARM_UP + VALUES)]
        print("@loop", name, statistics.median(values[WARM_UP:]) * 1e6)

    def bench_func(self, name, func, *args, inner_loops=1, **ignored):
        def timed(loops):
            repeat = range(loops)
            start = perf_counter()
            for _ in repeat:
                func(*args)
            return perf_counter() - start

        self.bench_time_func(name, timed)
