"""Run every benchmark: `python -m benchmarks`."""

from . import hot_path, sign_ins, start_up

for benchmark in (start_up, hot_path, sign_ins):
    print(f"\n{(benchmark.__doc__ or '').splitlines()[0]}")
    benchmark.main()
